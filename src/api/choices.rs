//! Several choices in one response (`n` above 1), whose texts are kept apart.

use crate::record::CHOICE_SEPARATOR;

/// Choices with a number above this are ignored, so that a wrong number in a response cannot exhaust memory.
const MOST: usize = 128;

/// Output of one choice in one event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChoicePiece {
    pub choice: u32,
    pub text: String,
    pub reasoning: String,
}

/// The texts of one choice, UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChoiceTexts {
    pub text: Vec<u8>,
    pub reasoning: Vec<u8>,
}

/// The texts of all choices but the first, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OtherChoices(Vec<ChoiceTexts>);

impl OtherChoices {
    /// The texts of a choice, counted from 0. `None` for the first, which is stored elsewhere, and for numbers above
    /// the limit.
    pub(crate) fn texts_of(&mut self, choice: u32) -> Option<&mut ChoiceTexts> {
        let place = (choice as usize).checked_sub(1).filter(|place| *place < MOST)?;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, ChoiceTexts::default);
        }
        self.0.get_mut(place)
    }

    /// Appends them to the texts of the first choice, each after a separator.
    pub fn join(&mut self, text: &mut Vec<u8>, reasoning: &mut Vec<u8>) {
        let reasoned = !reasoning.is_empty() || self.0.iter().any(|other| !other.reasoning.is_empty());
        for other in self.0.drain(..) {
            text.push(CHOICE_SEPARATOR);
            text.extend_from_slice(&other.text);
            if reasoned {
                reasoning.push(CHOICE_SEPARATOR);
                reasoning.extend_from_slice(&other.reasoning);
            }
        }
    }
}

/// The text of the first choice.
pub fn first(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == CHOICE_SEPARATOR).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_joined_in_their_order() {
        let mut others = OtherChoices::default();
        assert!(others.texts_of(0).is_none() && others.texts_of(4_000_000_000).is_none());
        for (choice, piece) in [(2, "c"), (1, "b"), (2, "C")] {
            others.texts_of(choice).unwrap().text.extend_from_slice(piece.as_bytes());
        }
        let (mut text, mut reasoning) = (b"a".to_vec(), Vec::new());
        others.join(&mut text, &mut reasoning);
        assert_eq!((text.as_slice(), reasoning.as_slice()), (&b"a\x1eb\x1ecC"[..], &b""[..]));
        assert_eq!(first(&text), b"a");
        others.texts_of(1).unwrap().reasoning.push(b'r');
        others.join(&mut text, &mut reasoning);
        assert_eq!(reasoning, b"\x1er");
    }
}
