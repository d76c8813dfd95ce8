-- What a person sets on a conversation. `updated_at` stays the time of its last question.
ALTER TABLE sessions ADD COLUMN archived_at INTEGER;
ALTER TABLE sessions ADD COLUMN changed_at INTEGER;  -- its title or its archive, by a person

-- What else made the question this question: JSON, NULL where it was sent with nothing but its message.
ALTER TABLE turns ADD COLUMN settings TEXT;

-- What the owner thinks of an answer. The key is the turn as it was asked: one that is asked again has none.
CREATE TABLE feedback (
  turn_id TEXT PRIMARY KEY,
  session_id INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  verdict TEXT NOT NULL CHECK (verdict IN ('good', 'bad')),
  words TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX feedback_by_session ON feedback (session_id);

-- The index of what was said: of each turn once it has ended, and behind it, so that no chat waits for it. The texts are
-- in `turns` alone, and of each only which three letters follow each other anywhere is known.
CREATE VIRTUAL TABLE search USING fts5 (
  said, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram'
);
-- Merges go on in small steps; one that would not be small is put off.
INSERT INTO search (search, rank) VALUES ('crisismerge', 256);
CREATE TABLE search_docs (
  id INTEGER PRIMARY KEY,         -- of `search`, and of `turns` when it was indexed
  turn_id TEXT NOT NULL,          -- another one by now: the turn was asked again, and this says nothing of it
  session_id INTEGER NOT NULL
) STRICT;
CREATE INDEX search_docs_by_session ON search_docs (session_id);
-- Up to which turn all are indexed, but for those that ran then or were answered anew since.
CREATE TABLE search_mark (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  indexed INTEGER NOT NULL
) STRICT;
INSERT INTO search_mark (id, indexed) VALUES (1, 0);
CREATE TABLE search_pending (
  id INTEGER PRIMARY KEY          -- of `turns`
) STRICT;
