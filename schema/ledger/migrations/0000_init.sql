CREATE TABLE `agents` (
	`agent_id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`control_hub` text NOT NULL,
	`approved` text NOT NULL,
	`offered` text,
	`state` text NOT NULL,
	`draining` integer NOT NULL,
	`approval` integer NOT NULL,
	`reason` text,
	`epoch` integer,
	`join_counter` integer NOT NULL,
	`attempt_id` text,
	`join_incarnation` integer NOT NULL,
	`journal_id` text,
	`acked_index` integer NOT NULL,
	`reachable` integer NOT NULL,
	`silent_since_ms` integer,
	`fenced_at_ms` integer,
	`fencing` integer NOT NULL,
	`connected_at_ms` integer,
	`last_seen_at_ms` integer
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `images` (
	`agent_id` text PRIMARY KEY NOT NULL,
	`images` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `intents` (
	`agent_id` text NOT NULL,
	`intent_id` text NOT NULL,
	`session_id` text NOT NULL,
	`generation` integer NOT NULL,
	`seq` integer NOT NULL,
	`order` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`agent_id`, `intent_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `cursors` (
	`one` integer PRIMARY KEY NOT NULL,
	`read_model` integer NOT NULL,
	`events` integer NOT NULL,
	`admission` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `meta` (
	`one` integer PRIMARY KEY NOT NULL,
	`group_number` integer NOT NULL,
	`incarnation` integer NOT NULL,
	`epoch_counter` integer NOT NULL,
	`snapshot_at_ms` integer,
	`restored_at_ms` integer,
	`closing` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `outbox` (
	`seq` integer PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`body` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `reservations` (
	`agent_id` text NOT NULL,
	`session_id` text NOT NULL,
	`generation` integer NOT NULL,
	`shape` text NOT NULL,
	PRIMARY KEY(`agent_id`, `session_id`, `generation`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `sessions` (
	`session_id` text PRIMARY KEY NOT NULL,
	`domain_id` text NOT NULL,
	`domain_number` integer NOT NULL,
	`project_id` text NOT NULL,
	`owner_id` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`state` text NOT NULL,
	`came_from` text,
	`reason` text,
	`generation` integer NOT NULL,
	`version` integer NOT NULL,
	`seq` integer NOT NULL,
	`shape` text NOT NULL,
	`agent_id` text,
	`image_digest` text,
	`attempts` integer NOT NULL,
	`avoid` text NOT NULL,
	`again` text,
	`stop` text,
	`purge` integer NOT NULL,
	`deadline_ms` integer,
	`moving` integer NOT NULL,
	`lease_ms` integer,
	`result` text,
	`started_at_ms` integer,
	`ended_at_ms` integer,
	`end_seq` integer,
	`holds` text NOT NULL,
	`trail` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `sessions_pending` ON `sessions` (`shape`,`session_id`) WHERE state = 'PENDING';--> statement-breakpoint
CREATE INDEX `sessions_moving` ON `sessions` (`session_id`) WHERE moving = 1;--> statement-breakpoint
CREATE INDEX `sessions_ended` ON `sessions` (`ended_at_ms`) WHERE ended_at_ms IS NOT NULL;--> statement-breakpoint
CREATE TABLE `specs` (
	`session_id` text PRIMARY KEY NOT NULL,
	`spec` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `trails` (
	`session_id` text NOT NULL,
	`first_version` integer NOT NULL,
	`rows` text NOT NULL,
	PRIMARY KEY(`session_id`, `first_version`)
) WITHOUT ROWID;
