-- The position that this database stands at: one row, changed in every transaction, so that a
-- position is atomic with its data and replicates itself.
CREATE TABLE _repl (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  magic TEXT NOT NULL CHECK (magic = 'llmchat-repl-1'),
  epoch INTEGER NOT NULL,         -- a u64 in two's complement
  txid INTEGER NOT NULL CHECK (txid >= 0),
  prev_chain BLOB NOT NULL CHECK (length(prev_chain) = 32), -- zero until there is a journal
  at INTEGER NOT NULL             -- ms since 1970
) STRICT;
INSERT INTO _repl (id, magic, epoch, txid, prev_chain, at) VALUES (1, 'llmchat-repl-1', 0, 0, zeroblob(32), 0);

CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  profile TEXT NOT NULL,          -- JSON, protocol::agent::Profile
  api_key BLOB NOT NULL,          -- sealed: version, nonce, XChaCha20-Poly1305 with the id as associated data
  source TEXT NOT NULL CHECK (source IN ('file', 'admin')),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A conversation: (owner, agent, the client's chatId) to the chatId that the upstream knows.
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY,
  owner TEXT NOT NULL,
  agent_id TEXT NOT NULL,         -- stays readable when the agent is removed
  chat_id TEXT NOT NULL,
  upstream_chat_id TEXT NOT NULL UNIQUE,
  title TEXT NOT NULL DEFAULT '',
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (owner, agent_id, chat_id)
) STRICT;
CREATE INDEX sessions_recent ON sessions (owner, updated_at);

CREATE TABLE turns (
  id INTEGER PRIMARY KEY,
  turn_id TEXT NOT NULL UNIQUE,   -- ours, new each time the turn is asked, in the order of time
  session_id INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  owner TEXT NOT NULL,            -- the session's, here for the key's index
  label TEXT NOT NULL,            -- the client's responseChatItemId, or ours
  idempotency_key TEXT,
  body_hash BLOB NOT NULL CHECK (length(body_hash) = 32),
  upstream_item_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'complete', 'failed', 'interrupted')),
  epoch INTEGER NOT NULL,         -- a turn that runs under an older epoch was interrupted
  question TEXT NOT NULL,         -- JSON of the user's message
  answer TEXT NOT NULL DEFAULT '',
  reasoning TEXT NOT NULL DEFAULT '',
  events TEXT NOT NULL DEFAULT '[]', -- JSON: [name, raw payload, offset in the answer]
  prompt_tokens INTEGER,
  completion_tokens INTEGER,
  failure TEXT,
  created_at INTEGER NOT NULL,
  finished_at INTEGER,
  UNIQUE (session_id, label)
) STRICT;
CREATE UNIQUE INDEX turns_by_key ON turns (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
