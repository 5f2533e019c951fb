CREATE TABLE `jupyter_sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`owner_id` text NOT NULL,
	`scope` text NOT NULL,
	`kernel_id` text NOT NULL,
	`path` text NOT NULL,
	`name` text NOT NULL,
	`type` text NOT NULL,
	`created_at_ms` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `jupyter_sessions_by_owner` ON `jupyter_sessions` (`owner_id`,`scope`,`id`);--> statement-breakpoint
CREATE TABLE `resource_presets` (
	`name` text PRIMARY KEY NOT NULL,
	`resources` text
) WITHOUT ROWID;
