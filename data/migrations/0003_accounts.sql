-- People with a password. Who chats without one is a visitor, and has no row.
CREATE TABLE users (
  id INTEGER PRIMARY KEY AUTOINCREMENT, -- a number is never given again: turns name their owner by it
  username TEXT NOT NULL UNIQUE,
  email TEXT,
  role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
  status TEXT NOT NULL CHECK (status IN ('active', 'inactive')),
  password TEXT NOT NULL,         -- a PHC string of argon2id; bcrypt's where it was imported
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  last_login_at INTEGER,
  last_login_ip TEXT
) STRICT;

-- Everything that came of one password: while the row is there its access tokens are good, and of its refresh
-- tokens the one of its generation. Without the row they are revoked.
CREATE TABLE logins (
  id TEXT PRIMARY KEY,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_of_user ON logins (user_id, created_at);
CREATE INDEX logins_by_end ON logins (expires_at);

-- Who changed what, who logged in. Each row carries the hash of all before it.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  user_id INTEGER,
  username TEXT,
  action TEXT NOT NULL,
  resource_type TEXT NOT NULL,
  resource_id TEXT,
  details TEXT NOT NULL,          -- JSON
  ip_address TEXT,
  user_agent TEXT,
  status TEXT NOT NULL CHECK (status IN ('success', 'failure')),
  error_message TEXT,
  chain BLOB NOT NULL CHECK (length(chain) = 32)
) STRICT;
