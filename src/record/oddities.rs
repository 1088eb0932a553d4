//! The oddities of one response.

use crate::finding::Oddity;

/// A set of oddities of one response; see [`Oddity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Oddities(u16);

impl Oddities {
    /// Adds one.
    pub fn add(&mut self, oddity: Oddity) {
        self.0 |= Oddities::bit(oddity);
    }

    /// Whether it is in the set.
    pub fn has(self, oddity: Oddity) -> bool {
        self.0 & Oddities::bit(oddity) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members, in the order of [`Oddity::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(move |oddity| self.has(*oddity))
    }

    /// The names of its members, separated by commas.
    pub fn names(self) -> String {
        self.iter().map(Oddity::name).collect::<Vec<_>>().join(",")
    }

    /// The set with these names.
    pub fn from_names(names: &str) -> Option<Oddities> {
        let mut all = Oddities::default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            all.add(Oddity::ALL.into_iter().find(|oddity| oddity.name() == name)?);
        }
        Some(all)
    }

    fn bit(oddity: Oddity) -> u16 {
        1 << (oddity as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_set() {
        let mut some = Oddities::default();
        assert!(some.is_empty() && some.names().is_empty());
        some.add(Oddity::ZeroUsage);
        some.add(Oddity::InvalidText);
        assert_eq!(some.names(), "invalid_text,zero_usage");
        assert_eq!(Oddities::from_names(&some.names()), Some(some));
        assert_eq!(Oddities::from_names(""), Some(Oddities::default()));
        assert_eq!(Oddities::from_names("invalid_text,sunny"), None);
        for oddity in Oddity::ALL {
            let json = serde_json::to_value(oddity).unwrap();
            assert_eq!(json, oddity.name());
        }
    }
}
