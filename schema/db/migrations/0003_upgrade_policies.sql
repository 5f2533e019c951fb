CREATE TABLE `upgrade_policies` (
	`subject_id` text PRIMARY KEY NOT NULL,
	`policy` text NOT NULL
);
