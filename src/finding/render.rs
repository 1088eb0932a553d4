//! The texts of the parts of findings, in English and in Chinese.

use super::{Cause, CountNote, Misfit, NotJudged, OpenFiles, SearchReason, SearchTrouble, en, zh};

impl Cause {
    /// Whether several findings of this cause are symptoms of one problem, which is shown once.
    pub fn has_symptoms(self) -> bool {
        self.en().is_some()
    }

    /// English headline above the symptoms of one cause: what happened and what to do.
    pub fn en(self) -> Option<&'static str> {
        en::headline(self)
    }

    /// The same in Chinese.
    pub fn zh(self) -> Option<&'static str> {
        zh::headline(self)
    }
}

/// In English.
impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&en::misfit(self))
    }
}

impl SearchReason {
    /// In English.
    pub fn en(&self) -> String {
        en::search_reason(self)
    }

    /// In Chinese.
    pub fn zh(&self) -> String {
        zh::search_reason(self)
    }
}

impl SearchTrouble {
    /// In English.
    pub fn en(&self) -> String {
        en::search_trouble(self)
    }

    /// In Chinese.
    pub fn zh(&self) -> String {
        zh::search_trouble(self)
    }
}

impl NotJudged {
    /// In English.
    pub fn en(self) -> String {
        en::not_judged(self)
    }

    /// In Chinese.
    pub fn zh(self) -> String {
        zh::not_judged(self)
    }
}

impl CountNote {
    /// In English.
    pub fn en(self) -> String {
        en::count_note(self)
    }

    /// In Chinese.
    pub fn zh(self) -> String {
        zh::count_note(self)
    }
}

/// In English.
impl std::fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&en::open_files(*self))
    }
}
