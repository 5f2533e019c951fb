CREATE TABLE `audit` (
	`chain` text NOT NULL,
	`seq` integer NOT NULL,
	`entry` text NOT NULL,
	`hash` text NOT NULL,
	PRIMARY KEY(`chain`, `seq`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `audit_pending` (
	`id` text PRIMARY KEY NOT NULL,
	`chain` text NOT NULL,
	`entry` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
ALTER TABLE `users` ADD `version` integer DEFAULT 1 NOT NULL;