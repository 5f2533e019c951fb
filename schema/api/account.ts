/** Domains, projects, users, tokens and signing in, on the wire. */
import { z } from 'zod';
import { pageOf } from './page.ts';

const count = z.int().nonnegative();
/** Printable ASCII, so that two addresses that look alike are the same one. */
export const Email = z
  .string()
  .max(254)
  .regex(/^[\x21-\x3f\x41-\x7e]+@[A-Za-z0-9.-]+$/, 'must be an address in ASCII: you@example.com');
/** Words of one line: nothing that is not seen, or that turns the direction of what follows. */
export const Words = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\p{C}\p{Zl}\p{Zp}]+$/u, 'must be 1 to 100 characters that can be seen, on one line');
export const Password = z.string().min(12, 'must be at least 12 characters').max(256);
export const EntityName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be 1 to 63 of a-z, 0-9 and -, no - at either end: team-a');

/** Roles. `superadmin` spans everything, `domain-admin` a domain; the others are held per project. */
export const Role = z.enum(['superadmin', 'domain-admin', 'project-admin', 'member', 'viewer']);
export type Role = z.infer<typeof Role>;
export const ProjectRole = z.enum(['project-admin', 'member', 'viewer']);
export type ProjectRole = z.infer<typeof ProjectRole>;

export const Login = z.strictObject({ email: Email, password: z.string().min(1).max(256) }).meta({ id: 'Login' });
export const LoggedIn = z.object({ token: z.string(), expiresAt: z.string() }).meta({ id: 'LoggedIn' });
export const NewPassword = z
  .strictObject({
    /** The one that it is now. */
    password: z.string().min(1).max(256),
    newPassword: Password,
    /** Revokes every other token of the user. */
    revokeTokens: z.boolean().optional(),
  })
  .meta({ id: 'NewPassword' });
export const Bootstrap = z.strictObject({ email: Email, password: Password }).meta({ id: 'Bootstrap' });
export const Bootstrapped = z
  .object({ userId: z.string(), token: z.string(), domain: z.string(), project: z.string(), resourceGroup: z.string() })
  .meta({ id: 'Bootstrapped' });

export const Whoami = z
  .object({
    userId: z.string(),
    email: z.string(),
    domainId: z.string(),
    role: Role.optional(),
    projects: z.array(z.object({ id: z.string(), name: z.string(), role: ProjectRole })),
    tokenId: z.string(),
    tokenExpiresAt: z.string().optional(),
    instance: z.string(),
  })
  .meta({ id: 'Whoami' });
export type Whoami = z.infer<typeof Whoami>;

export const TokenScope = z.enum(['metrics:read']);
export const NewToken = z
  .strictObject({
    name: Words,
    project: z.string().max(64).optional(),
    /** At most what its maker holds. */
    role: ProjectRole.optional(),
    /** A token with scopes is good for these alone. */
    scopes: z.array(TokenScope).max(8).optional(),
    ttlSeconds: z.int().min(60).max(31_536_000).optional(),
  })
  .meta({ id: 'NewToken' });
export const Token = z
  .object({
    id: z.string(),
    name: z.string(),
    prefix: z.string(),
    projectId: z.string().optional(),
    role: ProjectRole.optional(),
    scopes: z.array(z.string()),
    createdAtMs: count,
    expiresAtMs: count.optional(),
    revokedAtMs: count.optional(),
  })
  .meta({ id: 'Token' });
export type Token = z.infer<typeof Token>;
export const TokenCreated = Token.extend({ token: z.string() }).meta({ id: 'TokenCreated' });
export const TokenPage = pageOf(Token).meta({ id: 'TokenPage' });

export const NewDomain = z.strictObject({ name: EntityName }).meta({ id: 'NewDomain' });
export const Domain = z.object({ id: z.string(), name: z.string(), createdAtMs: count }).meta({ id: 'Domain' });
export type Domain = z.infer<typeof Domain>;
export const DomainPage = pageOf(Domain).meta({ id: 'DomainPage' });

export const NewProject = z
  .strictObject({
    name: EntityName,
    /** Id or name; default: the domain of who asks. Only superadmins reach others. */
    domain: z.string().max(64).optional(),
  })
  .meta({ id: 'NewProject' });
export const Project = z
  .object({ id: z.string(), name: z.string(), domainId: z.string(), createdAtMs: count })
  .meta({ id: 'Project' });
export type Project = z.infer<typeof Project>;
export const ProjectPage = pageOf(Project).meta({ id: 'ProjectPage' });

export const PutMember = z.strictObject({ role: ProjectRole }).meta({ id: 'PutMember' });
export const Member = z.object({ userId: z.string(), email: z.string(), role: ProjectRole }).meta({ id: 'Member' });
export type Member = z.infer<typeof Member>;
export const MemberPage = pageOf(Member).meta({ id: 'MemberPage' });

/** Roles that span more than a project. */
export const AdminRole = z.enum(['superadmin', 'domain-admin']);
export const NewUser = z
  .strictObject({
    email: Email,
    /** Without one it is a service account: it has tokens, and can not sign in. */
    password: Password.optional(),
    /** Id or name; default: the domain of who asks. Only superadmins reach others. */
    domain: z.string().max(64).optional(),
    role: AdminRole.optional(),
  })
  .meta({ id: 'NewUser' });
export const UserPatch = z
  .strictObject({
    active: z.boolean().optional(),
    /** `null` takes the role away. */
    role: AdminRole.nullable().optional(),
    /** Of a person; a service account has none. */
    password: Password.optional(),
    /** Revokes every token of the user. */
    revokeTokens: z.literal(true).optional(),
  })
  .meta({ id: 'UserPatch' });
export const User = z
  .object({
    id: z.string(),
    email: z.string(),
    domainId: z.string(),
    role: Role.optional(),
    active: z.boolean(),
    serviceAccount: z.boolean(),
    createdAtMs: count,
    /** Raised by each change; also the ETag. */
    version: count,
  })
  .meta({ id: 'User' });
export type User = z.infer<typeof User>;
export const UserPage = pageOf(User).meta({ id: 'UserPage' });

export const NewResourceGroup = z
  .strictObject({
    name: EntityName,
    /** Domains (id or name) all of whose projects may use it. Without `domains` and `projects`: the domain of who asks. */
    domains: z.array(z.string().max(64)).max(64).optional(),
    /** Projects (id) that may use it. */
    projects: z.array(z.string().max(64)).max(64).optional(),
  })
  .meta({ id: 'NewResourceGroup' });
export const ResourceGroup = z
  .object({ id: z.string(), name: z.string(), number: count, createdAtMs: count })
  .meta({ id: 'ResourceGroup' });
export type ResourceGroup = z.infer<typeof ResourceGroup>;
/** What an administrator says after the storage of a group's ledger was put back. */
export const GroupRestored = z
  .strictObject({
    /** The moment to which it was put back, Unix ms: sessions born after it may be unknown to the ledger. */
    snapshotAtMs: count,
  })
  .meta({ id: 'GroupRestored' });
export const ResourceGroupPage = pageOf(ResourceGroup).meta({ id: 'ResourceGroupPage' });
