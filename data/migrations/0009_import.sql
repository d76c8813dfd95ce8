-- What an import has brought: each row of the old service, by its kind and its id there, is brought once.
CREATE TABLE imported (
  kind TEXT NOT NULL,             -- user, agent, session, audit; or mark and source, of the import itself
  old_id TEXT NOT NULL,
  new_id INTEGER,                 -- of users, NULL once erased, and sessions; the number of a session may be given again,
  began INTEGER,                  -- but not with the time that it began at
  PRIMARY KEY (kind, old_id)
) STRICT, WITHOUT ROWID;
