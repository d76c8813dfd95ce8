-- Conversations in numbers. Triggers keep them, each in the transaction of what it counts, so that whoever writes turns
-- cannot forget it; and nothing that lists or counts conversations reads the turns.
--
-- What one turn has cost, within bounds that no sum of them leaves. An answer that has replaced another one says itself how
-- long it took: its question was asked long ago.
ALTER TABLE turns ADD COLUMN answer_ms INTEGER;
ALTER TABLE turns ADD COLUMN spent_tokens INTEGER AS (
  min(max(coalesce(prompt_tokens, 0), 0), 1000000000000) + min(max(coalesce(completion_tokens, 0), 0), 1000000000000)
) VIRTUAL;
ALTER TABLE turns ADD COLUMN spent_ms INTEGER AS (
  CASE state WHEN 'complete' THEN min(max(coalesce(answer_ms, finished_at - created_at, 0), 0), 31536000000) ELSE 0 END
) VIRTUAL;

-- Of the turns under clients' names (`label < '~'`): how many, what they cost, how many of them are complete and how long
-- those took.
ALTER TABLE sessions ADD COLUMN turn_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN token_sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN answered_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN answer_ms_sum INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET (turn_count, token_sum, answered_count, answer_ms_sum) = (
  SELECT count(*), coalesce(sum(spent_tokens), 0), count(*) FILTER (WHERE state = 'complete'), coalesce(sum(spent_ms), 0)
  FROM turns WHERE session_id = sessions.id AND label < '~'
);
-- All that a list is filtered and sorted by but titles, and much narrower than the rows: each turn moves one entry of it.
CREATE INDEX sessions_by_use ON sessions (updated_at, id, agent_id, archived_at, created_at, changed_at, turn_count);
-- Changed when a conversation begins or is renamed.
CREATE INDEX sessions_by_title ON sessions (title, id);

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

INSERT INTO usage (day, agent_id, sessions, turns)
WITH RECURSIVE
  slot (number) AS (VALUES (0) UNION ALL SELECT number + 1 FROM slot WHERE number < 95),
  happened (at, agent_id, sessions, turns) AS MATERIALIZED (
    SELECT max(created_at, 0), agent_id, 1, 0 FROM sessions
    UNION ALL
    SELECT max(turns.created_at, 0), agent_id, 0, 1 FROM turns JOIN sessions ON sessions.id = session_id WHERE label < '~'
  ),
  counted (day, agent_id, slot, sessions, turns) AS (
    SELECT at / 86400000 AS day, agent_id, at % 86400000 / 900000, sessions, turns FROM happened
    UNION ALL
    SELECT day, agent_id, number, 0, 0 FROM (SELECT DISTINCT at / 86400000 AS day, agent_id FROM happened), slot
  ),
  summed (day, agent_id, slot, sessions, turns) AS (
    SELECT day, agent_id, slot, sum(sessions), sum(turns) FROM counted GROUP BY day, agent_id, slot
  )
SELECT day, agent_id, json_group_array(sessions ORDER BY slot), json_group_array(turns ORDER BY slot)
FROM summed GROUP BY day, agent_id;

CREATE TRIGGER sessions_added AFTER INSERT ON sessions BEGIN
  INSERT INTO usage (day, agent_id) VALUES (max(NEW.created_at, 0) / 86400000, NEW.agent_id) ON CONFLICT DO NOTHING;
  UPDATE usage SET sessions = json_set(
    sessions,
    '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']',
    1 + json_extract(sessions, '$[' || (max(NEW.created_at, 0) % 86400000 / 900000) || ']')
  ) WHERE day = max(NEW.created_at, 0) / 86400000 AND agent_id = NEW.agent_id;
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
