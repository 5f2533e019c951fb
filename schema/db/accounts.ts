/** D1 tables of accounts: who there is, what they may, and where sessions may run. */
import { sql } from 'drizzle-orm';
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';

export const domains = sqliteTable('domains', {
  /** Part of session ids; never reused. */
  number: integer().primaryKey({ autoIncrement: true }),
  id: text().notNull().unique(),
  name: text().notNull().unique(),
  createdAtMs: integer('created_at_ms').notNull(),
});

export const projects = sqliteTable(
  'projects',
  {
    id: text().primaryKey(),
    domainId: text('domain_id').notNull(),
    name: text().notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (table) => [uniqueIndex('projects_by_name').on(table.domainId, table.name)],
);

export const users = sqliteTable(
  'users',
  {
    id: text().primaryKey(),
    domainId: text('domain_id').notNull(),
    /** In lower case. */
    email: text().notNull().unique(),
    /** `scrypt$<log2 N>$<salt>$<hash>`, base64url; null for service accounts, which have tokens and no password. */
    passwordHash: text('password_hash'),
    role: text({ enum: ['superadmin', 'domain-admin'] }),
    active: integer({ mode: 'boolean' }).notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    /** Raised by each change; the ETag. */
    version: integer().notNull().default(1),
  },
  (table) => [index('users_by_domain').on(table.domainId, table.id)],
);

export const memberships = sqliteTable(
  'memberships',
  {
    userId: text('user_id').notNull(),
    projectId: text('project_id').notNull(),
    role: text({ enum: ['project-admin', 'member', 'viewer'] }).notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.projectId] }),
    index('memberships_by_project').on(table.projectId, table.userId),
  ],
);

export const tokens = sqliteTable(
  'tokens',
  {
    id: text().primaryKey(),
    userId: text('user_id').notNull(),
    name: text().notNull(),
    /** The first characters of the token, to be recognised in a list. */
    prefix: text().notNull(),
    /** `<key version>.<HMAC>` of the whole token. */
    hash: text().notNull().unique(),
    /** Narrows to one project. */
    projectId: text('project_id'),
    /** Narrows to at most this project role. */
    role: text({ enum: ['project-admin', 'member', 'viewer'] }),
    /** JSON list; a token with scopes is good for these alone. */
    scopes: text({ mode: 'json' }).$type<string[]>().notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    expiresAtMs: integer('expires_at_ms'),
    revokedAtMs: integer('revoked_at_ms'),
  },
  (table) => [
    index('tokens_by_user').on(table.userId, table.id),
    index('tokens_by_scopes')
      .on(table.scopes, table.id)
      .where(sql`scopes <> '[]'`),
  ],
);

export const resourceGroups = sqliteTable('resource_groups', {
  /** Name of its ledger object and part of session and agent ids; never reused. */
  number: integer().primaryKey({ autoIncrement: true }),
  id: text().notNull().unique(),
  name: text().notNull().unique(),
  createdAtMs: integer('created_at_ms').notNull(),
});

/** Who may use a resource group: a whole domain (`project_id` empty) or one project. */
export const groupGrants = sqliteTable(
  'group_grants',
  {
    groupNumber: integer('group_number').notNull(),
    domainId: text('domain_id').notNull(),
    projectId: text('project_id').notNull().default(''),
  },
  (table) => [primaryKey({ columns: [table.groupNumber, table.domainId, table.projectId] })],
);
