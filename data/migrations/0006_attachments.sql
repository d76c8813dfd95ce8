-- Files that people send along. The content comes first, piece by piece in a commit each, under the number of a draft; the
-- row in `attachments` comes last, and without it there is no file.
CREATE TABLE attachments (
  id INTEGER PRIMARY KEY,         -- of the draft that it was
  name TEXT NOT NULL UNIQUE,      -- 128 random bits as hex digits, and an ending: who knows it may read the file
  owner TEXT NOT NULL,
  original_name TEXT NOT NULL,    -- as its sender calls it
  media_type TEXT NOT NULL,       -- by its content
  size INTEGER NOT NULL CHECK (size > 0),
  source TEXT NOT NULL CHECK (source IN ('upload', 'voice', 'library')),
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX attachments_by_owner ON attachments (owner, id);

-- Content without a file: what is being sent, what was left by a crash, what was removed. Numbers are never given again.
CREATE TABLE attachment_drafts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  epoch INTEGER NOT NULL,         -- of the primary that it is sent to; under a later one, and with 0, it is left over
  began_at INTEGER NOT NULL,
  size INTEGER NOT NULL           -- as it is counted in what is kept of everybody, until the row goes
) STRICT;
CREATE TABLE attachment_chunks (
  id INTEGER PRIMARY KEY,         -- the draft's number times 128, and the place of the piece
  bytes BLOB NOT NULL             -- 256 KiB, the last one less
) STRICT;

-- The conversations whose questions name a file.
CREATE TABLE attachment_refs (
  attachment INTEGER NOT NULL REFERENCES attachments (id) ON DELETE CASCADE,
  session_id INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  PRIMARY KEY (attachment, session_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachment_refs_by_session ON attachment_refs (session_id);

-- Files that no conversation names: removed when their time has come. Those of a library stay until somebody removes them.
CREATE TABLE attachment_idle (
  attachment INTEGER PRIMARY KEY REFERENCES attachments (id) ON DELETE CASCADE,
  since INTEGER NOT NULL          -- 0 where the last conversation that named it is gone
) STRICT;
CREATE INDEX attachment_idle_by_age ON attachment_idle (since);
CREATE TRIGGER attachment_let_go AFTER DELETE ON attachment_refs
WHEN NOT EXISTS (SELECT 1 FROM attachment_refs WHERE attachment = old.attachment)
BEGIN
  INSERT OR IGNORE INTO attachment_idle (attachment, since)
  SELECT id, 0 FROM attachments WHERE id = old.attachment AND source <> 'library';
END;

-- What is counted against the quotas, in bytes: of an owner, of all visitors ('visitors') and of everybody (''), by the day
-- that it was begun (from 1970, UTC), whatever became of it; day -1 is what is kept now, with what is left over in ''.
CREATE TABLE attachment_use (
  owner TEXT NOT NULL,
  day INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (owner, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachment_use_by_day ON attachment_use (day);
