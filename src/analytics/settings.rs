use jiff::tz::TimeZone;
use std::path::PathBuf;

/// What the numbers go by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where days begin.
    pub(crate) time_zone: TimeZone,
    /// An MMDB file that tells addresses' countries and provinces.
    pub(crate) geo_database: Option<PathBuf>,
    /// Two letters of ISO 3166: the operator's.
    pub(crate) home_country: String,
}
