CREATE TABLE `log_archives` (
	`session_id` text PRIMARY KEY NOT NULL,
	`expires_at_ms` integer NOT NULL,
	`purged_at_ms` integer
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `log_archives_by_expiry` ON `log_archives` (`expires_at_ms`);