CREATE TABLE `ssh_keys` (
	`user_id` text NOT NULL,
	`fingerprint` text NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`public_key` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`expires_at_ms` integer,
	PRIMARY KEY(`user_id`, `fingerprint`)
) WITHOUT ROWID;
