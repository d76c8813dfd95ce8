-- Whose data is being erased. The account is gone with the row's own commit; what it has left goes in small steps behind it,
-- by whichever node leads, and the row with the last of it.
CREATE TABLE erasures (
  user_id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT;

-- Where the audit begins: rows up to `removed` are past the time that they are kept for. A row of the audit itself says the
-- same, so that nobody moves the beginning unseen.
CREATE TABLE audit_start (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  removed INTEGER NOT NULL,
  chain BLOB NOT NULL CHECK (length(chain) = 32) -- of that last row
) STRICT;
