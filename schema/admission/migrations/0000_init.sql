CREATE TABLE `claims` (
	`session_id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`owner_id` text NOT NULL,
	`name` text NOT NULL,
	`group_number` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	`place` text NOT NULL,
	`reason` text,
	`version` integer NOT NULL,
	`trail` text NOT NULL,
	`spec` text,
	`stop` text,
	`unlisted` integer NOT NULL,
	`todo` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `claims_name` ON `claims` (`project_id`,`name`);--> statement-breakpoint
CREATE INDEX `claims_todo` ON `claims` (`session_id`) WHERE todo = 1;--> statement-breakpoint
CREATE TABLE `keys` (
	`day` integer NOT NULL,
	`actor_id` text NOT NULL,
	`key` text NOT NULL,
	`body_hash` text NOT NULL,
	`at_ms` integer NOT NULL,
	`made` text NOT NULL,
	`outcome` text,
	PRIMARY KEY(`day`, `actor_id`, `key`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `limits` (
	`project_id` text PRIMARY KEY NOT NULL,
	`concurrent_sessions` integer,
	`live_sessions` integer
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `meta` (
	`one` integer PRIMARY KEY NOT NULL,
	`domain_id` text NOT NULL,
	`domain_number` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `outbox` (
	`seq` integer PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`events` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `usage` (
	`project_id` text PRIMARY KEY NOT NULL,
	`live` integer NOT NULL,
	`waiting` integer NOT NULL
) WITHOUT ROWID;
