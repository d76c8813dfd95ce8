-- What is thought of the clock of whoever writes: each reign notes it. A doubt is noted by the commit itself whose time is in
-- doubt, so that neither a kill nor a failover takes what comes after for commits of a clock that is right.
CREATE TABLE clock_note (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  expected INTEGER NOT NULL, -- what the clock ought to have said
  wall INTEGER NOT NULL, -- when it said this
  kept_step_ms INTEGER NOT NULL CHECK (kept_step_ms >= 0) -- for how long it had kept step with the monotonic clock by then
) STRICT;
