-- Conversations in numbers. Triggers keep them, each in the transaction of what it counts, so that whoever writes turns
-- cannot forget it; and nothing that lists or counts conversations reads the turns.
--
-- What one turn has cost, within bounds that no sum of them leaves. An answer that has replaced another one says itself how
-- long it took: its question was asked long ago.
--
-- These columns are written into the schema itself. `ALTER TABLE … ADD COLUMN` reads the whole of a STRICT table each time to
-- check it: all that was ever said, while nobody is served.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, '  finished_at INTEGER, settings TEXT,', '  finished_at INTEGER,
  settings TEXT,
  answer_ms INTEGER,
  spent_tokens INTEGER AS (
    min(max(coalesce(prompt_tokens, 0), 0), 1000000000000) + min(max(coalesce(completion_tokens, 0), 0), 1000000000000)
  ) VIRTUAL,
  spent_ms INTEGER AS (
    CASE state WHEN ''complete'' THEN min(max(coalesce(answer_ms, finished_at - created_at, 0), 0), 31536000000) ELSE 0 END
  ) VIRTUAL,') WHERE type = 'table' AND name = 'turns';
-- Of the turns under clients' names (`label < '~'`): how many, what they cost, how many of them are complete and how long
-- those took. Conversations that were here before count nothing until they are told to: in small steps behind this
-- migration, as one commit holds no table of any size, or when one of their turns is written.
UPDATE sqlite_schema SET sql = replace(sql, ' archived_at INTEGER, changed_at INTEGER,', '
  archived_at INTEGER,
  changed_at INTEGER,
  turn_count INTEGER NOT NULL DEFAULT 0,
  token_sum INTEGER NOT NULL DEFAULT 0,
  answered_count INTEGER NOT NULL DEFAULT 0,
  answer_ms_sum INTEGER NOT NULL DEFAULT 0,
  is_counted INTEGER NOT NULL DEFAULT 0,') WHERE type = 'table' AND name = 'sessions';
PRAGMA writable_schema = RESET;

CREATE TABLE sessions_mark (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  counted INTEGER NOT NULL,       -- up to this session all are
  through INTEGER NOT NULL        -- the last of those that were here before
) STRICT;
INSERT INTO sessions_mark (id, counted, through) SELECT 1, 0, coalesce(max(id), 0) FROM sessions;
-- All that a list is filtered and sorted by but titles, and much narrower than the rows: each turn moves one entry of it.
-- Without those that are not counted, so that it begins empty and grows with the steps.
CREATE INDEX sessions_by_use ON sessions (
  updated_at, id, agent_id, archived_at, created_at, changed_at, turn_count, is_counted
) WHERE is_counted = 1;
-- Changed when a conversation begins or is renamed.
CREATE INDEX sessions_by_title ON sessions (title, id, is_counted) WHERE is_counted = 1;

-- What happened, whether or not it is still stored: by days of UTC since 1970 and the agent, in the 96 quarters of an hour
-- of each day, of which the days of every time zone are made.
CREATE TABLE usage (
  day INTEGER NOT NULL,
  agent_id TEXT NOT NULL,
  sessions TEXT NOT NULL DEFAULT '[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]', -- JSON: begun in each quarter
  turns TEXT NOT NULL DEFAULT '[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]', -- JSON: asked for the first time in each quarter
  PRIMARY KEY (day, agent_id)
) STRICT, WITHOUT ROWID;

-- Where conversations were begun from, as far as that is known: the rest of `usage`. No address is kept.
CREATE TABLE regions (
  id INTEGER PRIMARY KEY,
  class TEXT NOT NULL CHECK (class IN ('local', 'overseas', 'unknown')), -- by the operator's country at that time
  country TEXT NOT NULL,          -- two letters of ISO 3166
  province TEXT NOT NULL,         -- '' where only the country is known
  UNIQUE (class, country, province)
) STRICT;
CREATE TABLE usage_regions (
  quarter INTEGER NOT NULL,       -- of an hour, since 1970
  agent_id TEXT NOT NULL,
  region_id INTEGER NOT NULL,
  sessions INTEGER NOT NULL,
  PRIMARY KEY (quarter, agent_id, region_id)
) STRICT, WITHOUT ROWID;

-- What agents were called that are no more.
CREATE TABLE agents_past (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  provider TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Counts a session with the turns that it has, of which none was counted yet: one that is new, or was here before.
CREATE TRIGGER sessions_counted AFTER UPDATE OF is_counted ON sessions WHEN NEW.is_counted > OLD.is_counted BEGIN
  INSERT INTO usage (day, agent_id) VALUES (max(NEW.created_at, 0) / 86400000, NEW.agent_id) ON CONFLICT DO NOTHING;
  UPDATE usage SET sessions = json_set(
    sessions,
    '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']',
    1 + json_extract(sessions, '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']')
  ) WHERE day = max(NEW.created_at, 0) / 86400000 AND agent_id = NEW.agent_id;
  INSERT INTO usage (day, agent_id)
  SELECT DISTINCT max(created_at, 0) / 86400000, NEW.agent_id FROM turns WHERE session_id = NEW.id AND label < '~'
  ON CONFLICT DO NOTHING;
  UPDATE usage SET turns = (
    SELECT json_group_array(slot.value + coalesce(json_extract(asked.counts, '$."' || slot.key || '"'), 0) ORDER BY slot.key)
    FROM json_each(usage.turns) AS slot
  ) FROM (
    SELECT day, json_group_object(quarter, count) AS counts FROM (
      SELECT max(created_at, 0) / 86400000 AS day, max(created_at, 0) % 86400000 / 900000 AS quarter, count(*) AS count
      FROM turns WHERE session_id = NEW.id AND label < '~' GROUP BY day, quarter
    ) GROUP BY day
  ) AS asked WHERE usage.day = asked.day AND usage.agent_id = NEW.agent_id;
  UPDATE sessions SET (turn_count, token_sum, answered_count, answer_ms_sum) = (
    SELECT count(*), coalesce(sum(spent_tokens), 0), count(*) FILTER (WHERE state = 'complete'), coalesce(sum(spent_ms), 0)
    FROM turns WHERE session_id = NEW.id AND label < '~'
  ) WHERE id = NEW.id;
END;
CREATE TRIGGER sessions_added AFTER INSERT ON sessions BEGIN
  UPDATE sessions SET is_counted = 1 WHERE id = NEW.id;
END;
-- A session is counted before anything happens to its turns. Where it goes itself, whoever deletes it sees to that.
CREATE TRIGGER turns_adding BEFORE INSERT ON turns
WHEN (SELECT is_counted FROM sessions WHERE id = NEW.session_id) = 0 BEGIN
  UPDATE sessions SET is_counted = 1 WHERE id = NEW.session_id;
END;
CREATE TRIGGER turns_changing BEFORE UPDATE ON turns
WHEN (SELECT is_counted FROM sessions WHERE id = OLD.session_id) = 0 BEGIN
  UPDATE sessions SET is_counted = 1 WHERE id = OLD.session_id;
END;
CREATE TRIGGER turns_removing BEFORE DELETE ON turns
WHEN (SELECT is_counted FROM sessions WHERE id = OLD.session_id) = 0 BEGIN
  UPDATE sessions SET is_counted = 1 WHERE id = OLD.session_id;
END;
CREATE TRIGGER turns_added AFTER INSERT ON turns WHEN NEW.label < '~' BEGIN
  UPDATE sessions SET turn_count = turn_count + 1, token_sum = token_sum + NEW.spent_tokens,
    answered_count = answered_count + (NEW.state = 'complete'), answer_ms_sum = answer_ms_sum + NEW.spent_ms
  WHERE id = NEW.session_id;
  INSERT INTO usage (day, agent_id)
  SELECT max(NEW.created_at, 0) / 86400000, agent_id FROM sessions WHERE id = NEW.session_id ON CONFLICT DO NOTHING;
  UPDATE usage SET turns = json_set(
    turns,
    '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']',
    1 + json_extract(turns, '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']')
  ) WHERE day = max(NEW.created_at, 0) / 86400000
    AND agent_id = (SELECT agent_id FROM sessions WHERE id = NEW.session_id);
END;
-- Asked or answered again it is the same turn: what it costs changes, and nothing else.
CREATE TRIGGER turns_changed AFTER UPDATE ON turns WHEN NEW.label < '~' AND (
  NEW.spent_tokens <> OLD.spent_tokens OR NEW.spent_ms <> OLD.spent_ms OR (NEW.state = 'complete') <> (OLD.state = 'complete')
) BEGIN
  UPDATE sessions SET token_sum = token_sum + NEW.spent_tokens - OLD.spent_tokens,
    answered_count = answered_count + (NEW.state = 'complete') - (OLD.state = 'complete'),
    answer_ms_sum = answer_ms_sum + NEW.spent_ms - OLD.spent_ms
  WHERE id = NEW.session_id;
END;
-- Where the session goes too, there is nothing to change any more.
CREATE TRIGGER turns_removed AFTER DELETE ON turns WHEN OLD.label < '~' BEGIN
  UPDATE sessions SET turn_count = turn_count - 1, token_sum = token_sum - OLD.spent_tokens,
    answered_count = answered_count - (OLD.state = 'complete'), answer_ms_sum = answer_ms_sum - OLD.spent_ms
  WHERE id = OLD.session_id;
END;
CREATE TRIGGER agents_removed AFTER DELETE ON agents BEGIN
  INSERT INTO agents_past (id, name, provider)
  VALUES (OLD.id, coalesce(OLD.profile ->> '$.name', OLD.id), coalesce(OLD.profile ->> '$.provider', ''))
  ON CONFLICT (id) DO UPDATE SET name = excluded.name, provider = excluded.provider;
END;
