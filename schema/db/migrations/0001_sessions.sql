CREATE TABLE `sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`domain_id` text NOT NULL,
	`project_id` text NOT NULL,
	`owner_id` text NOT NULL,
	`name` text NOT NULL,
	`type` text NOT NULL,
	`group_number` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	`state` text NOT NULL,
	`version` integer NOT NULL,
	`generation` integer NOT NULL,
	`reason` text,
	`agent_id` text,
	`agent_name` text,
	`image_digest` text,
	`started_at_ms` integer,
	`ended_at_ms` integer,
	`result` text,
	`spec` text NOT NULL,
	`history` text
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `sessions_by_domain` ON `sessions` (`domain_id`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_by_project` ON `sessions` (`project_id`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_by_owner` ON `sessions` (`project_id`,`owner_id`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_by_state` ON `sessions` (`project_id`,`state`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_by_name` ON `sessions` (`name`,`id`);--> statement-breakpoint
CREATE INDEX `sessions_live` ON `sessions` (`project_id`,`id`) WHERE ended_at_ms IS NULL;--> statement-breakpoint
CREATE INDEX `sessions_all_live` ON `sessions` (`id`) WHERE ended_at_ms IS NULL;