-- What the upstream calls the conversation, where it makes the names itself (Dify): the only way to go on with it.
ALTER TABLE sessions ADD COLUMN upstream_conversation TEXT;
