//! What is read of the old service's tables, and the statements that read it.

use super::error::SourceError;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Tables that are counted, and not read: what is in them is not imported.
pub(crate) const COUNTED: [&str; 2] = ["logs", "chat_geo_events"];

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As text, whatever it is.
    Text,
    /// As JSON, also of an array or a text.
    Json,
    /// As milliseconds since 1970; without a zone it is UTC's. `NULL` for an infinite one.
    Time,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Without it the table is none of the old service's; others are read as `NULL` where they are missing.
    pub(super) is_needed: bool,
}

/// A table that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The first is the id.
    pub(super) columns: &'static [Column],
    /// Expressions over the table `t`.
    pub(super) order: &'static [&'static str],
    /// Of the texts of a row that are read; of one with more, the first two columns are.
    pub(super) bytes_max: usize,
}

/// The types of a table's columns, by name.
pub(super) type Types = BTreeMap<String, String>;

const fn needed(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_needed: true }
}

const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, is_needed: false }
}

pub(super) const USERS: &[Column] = &[
    needed("id", Kind::Text),
    needed("username", Kind::Text),
    optional("email", Kind::Text),
    needed("password_hash", Kind::Text),
    needed("role", Kind::Text),
    needed("status", Kind::Text),
    optional("created_at", Kind::Time),
    optional("updated_at", Kind::Time),
    optional("last_login_at", Kind::Time),
    optional("last_login_ip", Kind::Text),
];

pub(super) const AGENTS: &[Column] = &[
    needed("id", Kind::Text),
    needed("name", Kind::Text),
    optional("description", Kind::Text),
    needed("provider", Kind::Text),
    needed("endpoint", Kind::Text),
    needed("api_key", Kind::Text),
    optional("app_id", Kind::Text),
    optional("model", Kind::Text),
    optional("max_tokens", Kind::Text),
    optional("temperature", Kind::Text),
    optional("system_prompt", Kind::Text),
    optional("capabilities", Kind::Json),
    optional("rate_limit", Kind::Json),
    optional("features", Kind::Json),
    needed("is_active", Kind::Text),
    optional("created_at", Kind::Time),
    optional("updated_at", Kind::Time),
];

pub(super) const SESSIONS: &[Column] = &[
    needed("id", Kind::Text),
    needed("agent_id", Kind::Text),
    optional("title", Kind::Text),
    needed("user_id", Kind::Text),
    needed("created_at", Kind::Time),
    optional("updated_at", Kind::Time),
];

pub(super) const MESSAGES: &[Column] = &[
    needed("id", Kind::Text),
    needed("session_id", Kind::Text),
    needed("role", Kind::Text),
    needed("content", Kind::Text),
    optional("metadata", Kind::Json),
    needed("created_at", Kind::Time),
];

pub(super) const AUDIT: &[Column] = &[
    needed("id", Kind::Text),
    needed("timestamp", Kind::Time),
    optional("user_id", Kind::Text),
    optional("username", Kind::Text),
    needed("action", Kind::Text),
    optional("resource_type", Kind::Text),
    optional("resource_id", Kind::Text),
    optional("details", Kind::Json),
    optional("ip_address", Kind::Text),
    optional("user_agent", Kind::Text),
    needed("status", Kind::Text),
    optional("error_message", Kind::Text),
];

impl Table {
    /// The statement that reads all of it: each column, and last how many bytes the texts of a row have. What is too much
    /// never leaves the server.
    pub(super) fn statement(&self, types: &Types) -> Result<String, SourceError> {
        let (mut outer, mut inner, mut bytes) = (String::new(), String::new(), String::from("0"));
        for (at, column) in self.columns.iter().enumerate() {
            let expression = self.expression(column, types)?;
            // Text takes all, here and below.
            let _ = write!(inner, "{expression} AS c{at}, ");
            let _ = match column.kind {
                Kind::Time => write!(outer, "x.c{at}, "),
                // The id, and with messages the session's.
                Kind::Text | Kind::Json if at < 2 => write!(outer, "x.c{at}, "),
                Kind::Text | Kind::Json => write!(outer, "CASE WHEN x.n <= {} THEN x.c{at} END, ", self.bytes_max),
            };
            if column.kind != Kind::Time {
                let _ = write!(bytes, " + coalesce(octet_length({expression}), 0)::bigint");
            }
        }
        let (mut keys, mut order) = (String::new(), String::new());
        for (at, key) in self.order.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            let _ = write!(keys, ", {key} AS k{at}");
            let _ = write!(order, "{between}x.k{at} NULLS LAST");
        }
        let name = self.name;
        Ok(format!(
            "SELECT {outer}x.n FROM (SELECT {inner}({bytes})::bigint AS n{keys} FROM {name} t) x ORDER BY {order}"
        ))
    }

    fn expression(&self, column: &Column, types: &Types) -> Result<String, SourceError> {
        let name = column.name;
        let Some(found) = types.get(name) else {
            return match column {
                Column { is_needed: true, .. } => Err(SourceError::NoColumn { table: self.name, column: name }),
                Column { kind: Kind::Time, .. } => Ok("NULL::bigint".to_owned()),
                Column { kind: Kind::Text | Kind::Json, .. } => Ok("NULL::text".to_owned()),
            };
        };
        match column.kind {
            Kind::Text => Ok(format!("t.\"{name}\"::text")),
            Kind::Json => Ok(format!("to_jsonb(t.\"{name}\")::text")),
            Kind::Time if found.starts_with("timestamp") || found == "date" => Ok(format!(
                "CASE WHEN isfinite(t.\"{name}\") THEN floor(extract(epoch FROM t.\"{name}\") * 1000)::bigint END"
            )),
            Kind::Time => Err(SourceError::NoTime { table: self.name, column: name, found: found.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        name: "things",
        columns: &[needed("id", Kind::Text), optional("words", Kind::Json), optional("at", Kind::Time)],
        order: &["t.id"],
        bytes_max: 9,
    };

    fn types(of: &[(&str, &str)]) -> Types {
        of.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
    }

    #[test]
    fn a_statement_reads_what_is_there() {
        let sql = TABLE.statement(&types(&[("id", "integer"), ("at", "timestamp without time zone")])).unwrap();
        assert!(
            sql.starts_with("SELECT x.c0, x.c1, x.c2, x.n FROM (SELECT t.\"id\"::text AS c0, NULL::text AS c1,"),
            "{sql}"
        );
        assert!(sql.ends_with("AS n, t.id AS k0 FROM things t) x ORDER BY x.k0 NULLS LAST"), "{sql}");
    }

    #[test]
    fn a_table_of_another_service_is_refused() {
        let none = TABLE.statement(&types(&[]));
        assert!(matches!(none, Err(SourceError::NoColumn { table: "things", column: "id" })));
        let text = TABLE.statement(&types(&[("id", "text"), ("at", "text")]));
        assert!(matches!(text, Err(SourceError::NoTime { column: "at", .. })));
    }
}
