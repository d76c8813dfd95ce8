-- The index was for a history that nothing reads yet, and every turn rewrote it.
DROP INDEX sessions_recent;
