//! The sample content: people of one organisation and their files.

use coffer_domain::file::{Changes, Classification};
use serde_json::json;

/// The organisation all of them belong to.
pub(super) const ORGANISATION: &str = "example";

/// Somebody with files.
pub(super) struct Person {
    /// Subject of the person's tokens.
    pub(super) name: &'static str,
    pub(super) is_admin: bool,
    pub(super) files: &'static [Sample],
}

/// A file with its versions.
pub(super) struct Sample {
    /// The file's own name in the organisation.
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) content: &'static [u8],
    /// Later versions, oldest first. A file that has some lives in the volume that keeps them.
    pub(super) revisions: &'static [&'static [u8]],
    classification: Classification,
    tags: &'static [&'static str],
    /// JSON of the custom metadata.
    metadata: fn() -> serde_json::Value,
    is_public: bool,
    pub(super) is_deleted: bool,
}

/// Who there is.
pub(super) const PERSONS: &[Person] = &[
    Person {
        name: "ann",
        is_admin: false,
        files: &[
            Sample {
                name: "seed-report",
                path: "bridge/report.md",
                content: include_bytes!("files/report.md"),
                revisions: &[include_bytes!("files/report-revised.md")],
                classification: Classification::Internal,
                tags: &["bridge", "inspection", "2026"],
                metadata: || json!({"customer": "County roads", "spans": 3, "review": {"by": "ben", "is_done": true}}),
                is_public: false,
                is_deleted: false,
            },
            Sample {
                name: "seed-measurements",
                path: "bridge/measurements/march.csv",
                content: include_bytes!("files/measurements.csv"),
                revisions: &[],
                classification: Classification::Internal,
                tags: &["bridge", "sensors"],
                metadata: || json!({"rows": 96, "unit": "um"}),
                is_public: false,
                is_deleted: false,
            },
            Sample {
                name: "seed-offer",
                path: "offers/south span.txt",
                content: include_bytes!("files/offer.txt"),
                revisions: &[],
                classification: Classification::Confidential,
                tags: &["offer"],
                metadata: || json!({"amount_eur": 48_200}),
                is_public: false,
                is_deleted: false,
            },
        ],
    },
    Person {
        name: "ben",
        is_admin: false,
        files: &[
            Sample {
                name: "seed-logo",
                path: "brand/logo.png",
                content: include_bytes!("files/logo.png"),
                revisions: &[],
                classification: Classification::Public,
                tags: &["brand"],
                metadata: || json!({}),
                is_public: true,
                is_deleted: false,
            },
            Sample {
                name: "seed-plan",
                path: "bridge/plan.svg",
                content: include_bytes!("files/plan.svg"),
                revisions: &[],
                classification: Classification::Internal,
                tags: &["bridge", "drawing"],
                metadata: || json!({"scale": "1:200"}),
                is_public: false,
                is_deleted: false,
            },
            Sample {
                name: "seed-notes",
                path: "notes.txt",
                content: include_bytes!("files/notes.txt"),
                revisions: &[],
                classification: Classification::Internal,
                tags: &[],
                metadata: || json!({}),
                is_public: false,
                is_deleted: true,
            },
        ],
    },
    Person {
        name: "cleo",
        is_admin: true,
        files: &[
            Sample {
                name: "seed-salaries",
                path: "office/salaries.csv",
                content: include_bytes!("files/salaries.csv"),
                revisions: &[],
                classification: Classification::Restricted,
                tags: &["payroll"],
                metadata: || json!({"month": "2026-03"}),
                is_public: false,
                is_deleted: false,
            },
            Sample {
                name: "seed-sensors",
                path: "sensors/config.json",
                content: include_bytes!("files/config.json"),
                revisions: &[],
                classification: Classification::Internal,
                tags: &["sensors", "configuration"],
                metadata: || json!({"schema": 2}),
                is_public: false,
                is_deleted: false,
            },
        ],
    },
];

impl Sample {
    /// Whether it lives in the volume that keeps versions.
    pub(super) fn is_versioned(&self) -> bool {
        !self.revisions.is_empty()
    }

    /// Everything that is said of it.
    pub(super) fn description(&self) -> Changes {
        let metadata = (self.metadata)();
        Changes {
            classification: Some(self.classification),
            tags: Some(self.tags.iter().map(|tag| (*tag).to_owned()).collect()),
            custom_metadata: metadata.as_object().cloned(),
            is_public: Some(self.is_public),
            ..Changes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PERSONS;
    use std::collections::HashSet;

    #[test]
    fn every_sample_has_a_name_and_a_place_of_its_own_and_valid_metadata() {
        let samples: Vec<_> = PERSONS.iter().flat_map(|person| person.files).collect();
        let names: HashSet<_> = samples.iter().map(|sample| sample.name).collect();
        let paths: HashSet<_> = samples.iter().map(|sample| sample.path).collect();
        assert!(!samples.is_empty());
        assert_eq!((names.len(), paths.len()), (samples.len(), samples.len()));
        for sample in samples {
            assert!(!sample.content.is_empty(), "{}", sample.name);
            let metadata = sample.description().custom_metadata.unwrap();
            assert_eq!(coffer_domain::name::check_metadata(&metadata), Ok(()), "{}", sample.name);
        }
    }
}
