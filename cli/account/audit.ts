/** `causeway audit` and `causeway audit verify`: who did what in a domain, and whether the chain of records is whole. */
import type { Command } from 'commander';
import { AuditPage, type AuditRecord, AuditVerdict } from '../../schema/api/audit.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { plain, printTable } from '../terminal/table.ts';

interface Options {
  domain?: string;
  limit: string;
  json?: boolean;
}

const domainOption = [
  '--domain <domain>',
  'a domain by id or name, or "system" (superadmins); default: your own',
] as const;

/** Registers `audit`. */
export function registerAudit(program: Command): void {
  const audit = program
    .command('audit')
    .description('who did what, newest first (administrators)')
    .option(...domainOption)
    .option('-n, --limit <count>', 'records to show', '50')
    .option('--json', 'one JSON object a line')
    .action(show);
  audit
    .command('verify')
    .description('check that no record was changed or removed')
    .option(...domainOption)
    .action((_: unknown, command: Command) => verify(command.optsWithGlobals<{ domain?: string }>().domain));
}

async function show(options: Options): Promise<void> {
  const wanted = Number(options.limit);
  if (!Number.isInteger(wanted) || wanted < 1)
    throw new CliFailure('--limit takes a number from 1', { status: 2, hint: 'causeway audit -n 100' });
  const records = await read(new Api(), options.domain, wanted);
  if (options.json) for (const record of records) process.stdout.write(`${JSON.stringify(record)}\n`);
  else
    printTable(
      ['TIME', 'ACTOR', 'ADDRESS', 'WHAT', 'OBJECT', 'RESULT'],
      records.map((record) => [
        new Date(record.atMs).toISOString().replace('T', ' ').slice(0, 19),
        plain(record.actor.id ?? record.actor.kind),
        plain(record.address),
        plain(record.action),
        plain(record.objectId ?? '-'),
        resultOf(record),
      ]),
    );
}

function resultOf({ outcome, code, count }: AuditRecord): string {
  if (outcome === 'done') return 'done';
  return `refused ${plain(code ?? '')}${count === undefined ? '' : ` (${count} more)`}`;
}

async function read(api: Api, domain: string | undefined, wanted: number): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of api.items(AuditPage, '/v1/audit', { query: { domain, limit: Math.min(200, wanted) } }))
    if (records.push(record) >= wanted) break;
  return records;
}

async function verify(domain: string | undefined): Promise<void> {
  const api = new Api();
  let checked = 0;
  for (let from: number | undefined = 1; from !== undefined;) {
    const verdict: AuditVerdict = await api.json(AuditVerdict, 'GET', '/v1/audit/verify', { query: { domain, from } });
    checked += verdict.checked;
    if (verdict.broken)
      throw new CliFailure(`record ${verdict.broken.seq} of chain ${plain(verdict.chain)} is ${verdict.broken.why}`, {
        hint: 'compare with a backup: everything before it is whole, nothing from it on is proven',
      });
    from = verdict.next;
  }
  process.stdout.write(`whole: ${checked} records\n`);
}
