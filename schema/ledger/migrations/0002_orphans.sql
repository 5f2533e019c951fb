CREATE TABLE `orphans` (
	`agent_id` text PRIMARY KEY NOT NULL,
	`items` text NOT NULL
) WITHOUT ROWID;
