use super::error::AddressError;
use super::pass_file;
use crate::base::Secret;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

const PORT: u16 = 5432;
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// What the environment says, as it does to `psql`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `PGUSER`.
    pub(crate) user: Option<String>,
    /// `PGPASSWORD`.
    pub(crate) password: Option<Secret>,
    /// What is in the file that `PGPASSFILE` names.
    pub(crate) pass_file: Option<Secret>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

/// Where the old database is, and who reads it. Neither prints the password.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) place: Place,
    /// Whether the password was in the address itself.
    pub(crate) has_password: bool,
}

impl Address {
    /// Reads a URL; what it does not say is taken from the environment.
    pub(crate) fn parse(url: &Secret, environment: &Environment) -> Result<Self, AddressError> {
        let url = url.expose().trim();
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(AddressError::Malformed);
        }
        // Its own error may quote a part of it.
        let mut config: Config = url.parse().map_err(|_| AddressError::Malformed)?;
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        let place = match config.get_hosts() {
            [Host::Tcp(host)] if !host.is_empty() => Place::Tcp { host: host.clone(), port },
            [Host::Unix(dir)] => Place::Socket(dir.join(format!(".s.PGSQL.{port}"))),
            _ => return Err(AddressError::Host),
        };
        if matches!(place, Place::Socket(_)) {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_user().is_none() {
            config.user(environment.user.as_deref().ok_or(AddressError::NoUser)?);
        }
        let has_password = config.get_password().is_some();
        if let Some(password) = password(&config, &place, environment)?.filter(|_| !has_password) {
            config.password(password.expose());
        }
        config.application_name("llmchat import");
        Ok(Self { config, place, has_password })
    }

    /// Whether what is read goes over a network, from a server of which nobody knows that it is the one.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        let Place::Tcp { host, .. } = &self.place else { return false };
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.config.get_ssl_mode() == SslMode::Prefer && !is_here
    }
}

fn password(config: &Config, place: &Place, environment: &Environment) -> Result<Option<Secret>, AddressError> {
    if environment.password.is_some() {
        return Ok(environment.password.clone());
    }
    let Some(file) = &environment.pass_file else { return Ok(None) };
    let user = config.get_user().unwrap_or_default();
    let port = config.get_ports().first().copied().unwrap_or(PORT).to_string();
    let host = match place {
        Place::Tcp { host, .. } => host,
        Place::Socket(_) => "localhost",
    };
    pass_file::password(file, [host, &port, config.get_dbname().unwrap_or(user), user])
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, environment: &Environment) -> Result<Address, AddressError> {
        Address::parse(&Secret::new(url), environment)
    }

    #[test]
    fn a_server_on_a_network_that_is_not_checked_is_told_from_others() {
        let nothing = Environment { user: None, password: None, pass_file: None };
        for (url, is_unauthenticated) in [
            ("postgres://u:p@db.test/chat", true),
            ("postgres://u:p@10.0.0.1/chat?sslmode=prefer", true),
            ("postgres://u:p@db.test/chat?sslmode=require", false),
            ("postgres://u:p@127.0.0.1/chat", false),
            ("postgres://u:p@localhost/chat", false),
            ("postgres://u:p@%2Frun%2Fpostgresql/chat", false),
        ] {
            assert_eq!(parse(url, &nothing).unwrap().is_unauthenticated(), is_unauthenticated, "{url}");
        }
    }

    #[test]
    fn an_address_says_where_and_who() {
        let nothing = Environment::default();
        let address = parse("postgres://u:p%40w@db.test/chat?sslmode=require", &nothing).unwrap();
        assert_eq!(address.place, Place::Tcp { host: "db.test".to_owned(), port: 5432 });
        assert_eq!(address.config.get_password(), Some(b"p@w".as_slice()));
        assert!(address.has_password && address.config.get_ssl_mode() == SslMode::Require);
        assert!(!format!("{address:?}").contains("p@w"));
        let socket = parse("postgresql:///chat?host=/run/pg&port=7&user=u", &nothing).unwrap();
        assert_eq!(socket.place, Place::Socket("/run/pg/.s.PGSQL.7".into()));
        assert_eq!((socket.config.get_ssl_mode(), socket.has_password), (SslMode::Disable, false));
    }

    #[test]
    fn the_environment_says_what_the_address_does_not() {
        let environment = Environment {
            user: Some("u".to_owned()),
            pass_file: Some(Secret::new("db.test:5432:chat:u:from-file")),
            ..Environment::default()
        };
        let address = parse("postgres://db.test/chat", &environment).unwrap();
        assert_eq!(address.config.get_password(), Some(b"from-file".as_slice()));
        let nearer = Environment { password: Some(Secret::new("nearer")), ..environment };
        let address = parse("postgres://db.test/chat", &nearer).unwrap();
        assert_eq!(address.config.get_password(), Some(b"nearer".as_slice()));
        let address = parse("postgres://u:own@db.test/chat", &nearer).unwrap();
        assert_eq!(address.config.get_password(), Some(b"own".as_slice()));
    }

    #[test]
    fn a_bad_address_is_refused_without_being_quoted() {
        let nothing = Environment::default();
        for bad in [
            "",
            "mysql://u:hush@h/d",
            "host=h user=u password=hush",
            "postgres://u:hush@h:port/d",
            "postgres://u:hush@h/d?sslmode=maybe",
            "postgres://u:hush@h/d?hush=1",
            "postgres://u:hush@h1,h2/d",
            "postgres:///d?user=u",
            "postgres://h/d",
        ] {
            let error = parse(bad, &nothing).expect_err(bad);
            assert!(!format!("{error} {error:?}").contains("hush"), "{bad}: {error:?}");
        }
    }
}
