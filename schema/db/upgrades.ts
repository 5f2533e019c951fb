/** D1 table of when agents upgrade themselves. */
import { sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { UpgradePolicy } from '../api/upgrade.ts';

export const upgradePolicies = sqliteTable('upgrade_policies', {
  /** Id of an agent or of a resource group. */
  subjectId: text('subject_id').primaryKey(),
  policy: text({ mode: 'json' }).$type<UpgradePolicy>().notNull(),
});
