/**
 * A home meets a checkout of another release. A newer one copies the home first and says how to go back; an older one leaves
 * it alone. The migrations themselves are the edge's: D1 at its start, objects when they wake.
 */
import { join } from 'node:path';
import { judgeVersion } from '../../schema/home-version.ts';
import { CliFailure } from '../exit.ts';
import { backupsFolder, makeBackup } from './backup/make.ts';
import type { Report } from './report.ts';
import { checkoutVersion, findHomeVersion, noteHomeVersion } from './version.ts';

/** Refuses a home of a newer release, before anything in it is touched. @throws CliFailure */
export function refuseNewerHome(home: string): void {
  const found = findHomeVersion(home);
  const verdict = found ? judgeVersion(found, checkoutVersion()) : undefined;
  if (verdict?.kind !== 'newer') return;
  throw new CliFailure(`${home} is of a newer release than this checkout: ${verdict.reasons.join('; ')}`, {
    hint: `start it with release ${found?.release}, or go back: causeway restore ${join(home, 'backups')}/FILE`,
  });
}

/** Before the first part is started, with the home's lock: copies a home of an older release, and makes it one of this. */
export async function upgradeHome(home: string, report: Report): Promise<void> {
  const found = findHomeVersion(home);
  const verdict = found ? judgeVersion(found, checkoutVersion()) : undefined;
  if (found && verdict?.kind === 'older') {
    const stamp = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '');
    const file = join(backupsFolder(home), `before-upgrade-from-${found.release}-${stamp}.causeway-backup`);
    await report.step('upgrade', async (say) => {
      await makeBackup(home, file, say);
      return {
        line: `this home is of an older release (${verdict.steps.join(', ')}); it was copied first`,
        value: undefined,
      };
    });
    report.line(`             to go back: causeway restore ${file}, with the former checkout`);
  }
  noteHomeVersion(home);
}
