use crate::base::{Chain, Region, RegionClass};
use crate::disk::{self, DiskError};
use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// A database of every city in the world has some 70 MB.
const DATABASE_BYTES_MAX: u64 = 256 << 20;
const PROVINCE_CHARS_MAX: usize = 64;

/// Knows countries and provinces by addresses, as far as the operator has given a database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Geo(Arc<Inner>);

struct Inner {
    path: Option<PathBuf>,
    home_country: String,
    database: RwLock<Option<Arc<Database>>>,
}

type Database = Reader<Vec<u8>>;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
enum GeoError {
    #[error("read the database of places")]
    Read(#[from] DiskError),
    #[error("`{path}` is no MMDB database")]
    Nonsense { path: PathBuf, source: MaxMindDbError },
}

/// What is read of a record; the usual databases have more.
#[derive(Deserialize)]
struct Record {
    country: Option<Country>,
    #[serde(default)]
    subdivisions: Vec<Subdivision>,
}

#[derive(Deserialize)]
struct Country {
    iso_code: Option<String>,
}

#[derive(Deserialize)]
struct Subdivision {
    iso_code: Option<String>,
    #[serde(default)]
    names: HashMap<String, String>,
}

impl Geo {
    /// Nothing is known before [`Geo::load`].
    pub(crate) fn new(path: Option<PathBuf>, home_country: String) -> Self {
        Self(Arc::new(Inner { path, home_country, database: RwLock::default() }))
    }

    /// Reads the database, again where it was read before. One that is missing or broken is named in the log: what was
    /// known stays in use, and a start goes on without any. Reads up to 256 MiB from disk; call it where that may wait.
    pub(crate) fn load(&self) {
        let Some(path) = &self.0.path else { return };
        match open(path) {
            Ok(database) => {
                let kind = database.metadata().database_type.clone();
                *self.0.database.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
                tracing::info!(path = %path.display(), kind, "database of places read");
            }
            Err(error) => {
                let known = if self.is_loaded() { "the old one stays in use" } else { "no place is known" };
                tracing::error!(path = %path.display(), error = %Chain(&error), "{known}");
            }
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.database().is_some()
    }

    /// Where an address is. `None` for private ones, and wherever else the database has nothing to say. Some microseconds.
    pub(crate) fn region(&self, address: IpAddr) -> Option<Region> {
        let database = self.database()?;
        // A record of another form says nothing.
        let found = database.lookup(address.to_canonical()).ok()?;
        let record: Record = found.decode().ok()??;
        let country = record.country?.iso_code.filter(|code| is_country(code))?;
        let province = record.subdivisions.into_iter().next().and_then(province).unwrap_or_default();
        let class = match (country == self.0.home_country, province.is_empty()) {
            (false, _) => RegionClass::Overseas,
            (true, false) => RegionClass::Local,
            (true, true) => RegionClass::Unknown,
        };
        // Other countries' provinces are nobody's question.
        let province = if class == RegionClass::Local { province } else { String::new() };
        Some(Region { class, country, province })
    }

    fn database(&self) -> Option<Arc<Database>> {
        self.0.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn open(path: &Path) -> Result<Database, GeoError> {
    let bytes = disk::read_at_most(path, DATABASE_BYTES_MAX)?;
    Reader::from_source(bytes).map_err(|source| GeoError::Nonsense { path: path.to_owned(), source })
}

fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// As people there call it, where the database knows that.
fn province(Subdivision { iso_code, mut names }: Subdivision) -> Option<String> {
    let name = ["zh-CN", "en"].into_iter().find_map(|language| names.remove(language)).or(iso_code)?;
    let name: String = name.chars().filter(|letter| !letter.is_control()).take(PROVINCE_CHARS_MAX).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
