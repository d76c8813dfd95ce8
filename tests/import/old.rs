//! The old service's tables, and what it could have left in them.

use crate::server::Postgres;
use crate::support::Upstream;

/// Of every user whose hash is good.
pub(crate) const PASSWORD: &str = "Old-pass-1";
/// Of every agent, so that leaks are found by one search.
pub(crate) const API_KEY: &str = "fastgpt-oldkey0123456789";

const TABLES: &str = "
CREATE TABLE users (id serial PRIMARY KEY, username text UNIQUE NOT NULL, email text, email_verified boolean DEFAULT false,
  password_salt text, password_hash text NOT NULL, role text, status text, created_at timestamptz DEFAULT now(),
  updated_at timestamptz, failed_login_attempts int DEFAULT 0, locked_until timestamptz, last_login_at timestamptz,
  last_login_ip inet);
CREATE TABLE agent_configs (id text PRIMARY KEY, name text NOT NULL, description text, provider text NOT NULL,
  endpoint text NOT NULL, api_key text NOT NULL, app_id text, model text, max_tokens int, temperature numeric,
  system_prompt text, capabilities jsonb, rate_limit jsonb, features jsonb, metadata jsonb, is_active boolean,
  source text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE chat_sessions (id text PRIMARY KEY, agent_id text, title text, user_id int, created_at timestamptz,
  updated_at timestamptz);
CREATE TABLE chat_messages (id text PRIMARY KEY, session_id text, role text, content text, metadata jsonb,
  created_at timestamptz);
CREATE TABLE audit_logs (id bigserial PRIMARY KEY, timestamp timestamptz, user_id int, username text, action text,
  resource_type text, resource_id text, details jsonb, ip_address text, user_agent text, status text, error_message text,
  created_at timestamptz);
CREATE TABLE logs (id serial, timestamp timestamptz, level text, message text);
CREATE TABLE chat_geo_events (id text, agent_id text, session_id text, ip text, country text, province text, city text,
  created_at timestamptz);
";

/// Makes the tables, without a row.
pub(crate) fn make(postgres: &Postgres) {
    postgres.sql(TABLES);
}

/// Fills the tables: `sessions` conversations of five users with six messages each, and 100 rows of the audit. The agent
/// is behind `upstream`.
pub(crate) fn fill(postgres: &Postgres, upstream: &Upstream, sessions: u32) {
    let hash = bcrypt::hash(PASSWORD, 4).expect("a cost that bcrypt knows");
    let endpoint = upstream.endpoint();
    postgres.sql(&format!(
        "INSERT INTO users (id, username, email, password_hash, role, status, created_at, updated_at, last_login_at,
           last_login_ip)
         SELECT n, 'user' || n, 'user' || n || '@example.com', '{hash}', CASE n WHEN 3 THEN 'admin' ELSE 'user' END, 'active',
           '2024-01-01 00:00:00+00'::timestamptz + n * interval '1 hour', '2024-02-01', '2024-03-01', '10.0.0.1'
         FROM generate_series(2, 6) n;
         INSERT INTO agent_configs (id, name, provider, endpoint, api_key, app_id, capabilities, rate_limit, features,
           is_active, created_at)
         VALUES ('old-agent', 'The old agent', 'fastgpt', '{endpoint}', '{API_KEY}', '6700aa00bb11cc22dd33ee10',
           '[\"text\"]', '{{\"requestsPerMinute\": 600}}', '{{\"supportsFiles\": false}}', true, '2024-01-01');
         INSERT INTO chat_sessions
         SELECT 'session_' || n, 'old-agent', 'Chat ' || n, 2 + n % 5, '2024-01-02'::timestamptz + n * interval '1 minute',
           '2024-01-03'::timestamptz + n * interval '1 minute'
         FROM generate_series(1, {sessions}) n;
         INSERT INTO chat_messages
         SELECT 'm' || n || '-' || k, 'session_' || n, CASE k % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
           '第' || k || ' of ' || n || ' ' || repeat(md5((n * 10 + k)::text), 20),
           CASE k % 2 WHEN 0 THEN NULL ELSE '{{\"model\": \"m\"}}'::jsonb END,
           -- A question and its answer were written at one moment.
           '2024-01-02'::timestamptz + n * interval '1 minute' + (k / 2) * interval '1 second'
         FROM generate_series(1, {sessions}) n, generate_series(0, 5) k;
         INSERT INTO audit_logs (timestamp, user_id, username, action, resource_type, resource_id, details, ip_address, status)
         SELECT '2024-01-01'::timestamptz + n * interval '1 minute', 2 + n % 5, 'user' || (2 + n % 5), 'LOGIN', 'user',
           n::text, '{{\"n\": 1}}', '10.0.0.1', CASE n % 3 WHEN 0 THEN 'FAILURE' ELSE 'SUCCESS' END
         FROM generate_series(1, 100) n;
         INSERT INTO logs (level, message) SELECT 'INFO', 'a line' FROM generate_series(1, 7);
         INSERT INTO chat_geo_events (id) VALUES ('g1'), ('g2');"
    ));
}

/// Adds what is odd: beside [`fill`], and one row of each kind that an import must not trip over.
pub(crate) fn add_odd(postgres: &Postgres) {
    postgres.sql(
        "INSERT INTO users (id, username, email, password_hash, role, status) VALUES
           (10, 'root', NULL, '$2b$04$x', 'root', 'active'), (11, 'gone', NULL, 'x', 'user', 'deleted'),
           (12, ' blank', NULL, 'x', 'user', 'active'), (13, 'md5', 'nobody', 'd41d8cd98f00b204e9800998ecf8427e', 'user', 'active');
         INSERT INTO agent_configs (id, name, provider, endpoint, api_key, is_active, max_tokens) VALUES
           ('zhipu', 'Z', 'zhipu', 'http://z.test', 'k', true, 1), ('no app', 'N', 'openai', 'http://z.test', 'k', true, 1),
           ('many', 'M', 'custom', 'http://z.test', 'k', true, 1000000);
         INSERT INTO chat_sessions VALUES
           ('odd', 'old-agent', NULL, 2, NULL, NULL), ('a b', 'old agent', 'x', 2, '2024-01-01', '2023-01-01'),
           ('visitor', 'old-agent', 'v', NULL, 'infinity', '2024-01-01'), ('gones', 'old-agent', 'v', 11, '2024-01-01', NULL);
         INSERT INTO chat_messages VALUES
           ('o1', 'odd', 'assistant', 'welcome', '\"words\"', '2024-01-01 00:00:01'), ('o2', 'odd', 'user', 'one', NULL, '2024-01-01 00:00:02'),
           ('o3', 'odd', 'user', 'two', NULL, '2024-01-01 00:00:03'), ('o4', 'odd', 'tool', 'out', '{\"t\":1}', '2024-01-01 00:00:04'),
           ('o5', 'odd', 'assistant', 'three', NULL, '2024-01-01 00:00:05'), ('o6', 'odd', 'assistant', 'four', NULL, '2024-01-01 00:00:06'),
           ('o7', 'odd', 'system', 'be kind', NULL, '2024-01-01 00:00:07'), ('o8 *', 'odd', 'user', 'last', NULL, 'infinity'),
           ('e1', 'a b', 'user', '', NULL, '2024-01-01'), ('e2', 'a b', 'assistant', NULL, NULL, '2024-01-02'),
           ('lost', 'nowhere', 'user', 'x', NULL, '2024-01-01'), ('big', 'visitor', 'user', repeat('x', 9000000), NULL, '2024-01-01'),
           ('long', 'visitor', 'user', repeat('y', 3000000), NULL, '2024-01-02'), ('nul', 'visitor', NULL, 'z', NULL, '2024-01-03');
         INSERT INTO audit_logs (id, timestamp, action, status, details) VALUES
           (1000, NULL, 'A', 'SUCCESS', NULL), (1001, '2024-01-01', 'B', 'maybe', NULL), (1002, '2024-01-01', NULL, 'SUCCESS', NULL),
           (1003, '2024-01-01', 'C', 'SUCCESS', to_jsonb(repeat('x', 700000))), (1004, '2024-01-01', 'D', 'error', NULL);",
    );
}

/// What every import of [`fill`] must tell of the messages of one session, in their order: roles and contents.
pub(crate) fn said(postgres: &Postgres, session: &str) -> Vec<String> {
    postgres.sql(&format!(
        "SELECT role || ':' || content FROM chat_messages WHERE session_id = '{session}'
         ORDER BY created_at, role DESC, id COLLATE \"C\""
    ))
}
