/** `causeway images`: what the machines hold and a session can start from at once. */
import type { Command } from 'commander';
import { ImageList } from '../schema/api/image.ts';
import { Api } from './http/api.ts';
import { bytesText, plain, printTable } from './terminal/table.ts';

/** Registers `images`. */
export function registerImages(program: Command): void {
  program
    .command('images')
    .description('images that the machines hold')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const { items } = await new Api().json(ImageList, 'GET', '/v1/images');
      if (options.json) process.stdout.write(`${JSON.stringify(items)}\n`);
      else if (items.length === 0)
        process.stdout.write(`no machine holds an image yet (causeway status says what is being built)\n${pulling}\n`);
      else {
        printTable(
          ['NAME', 'SIZE', 'MACHINES', 'DIGEST'],
          items.map((each) => [
            plain(each.names.join(', ') || '-'),
            bytesText(each.sizeBytes),
            String(each.agents),
            each.digest.slice(0, 19),
          ]),
        );
        if (process.stderr.isTTY) process.stderr.write(`${pulling}\n`);
      }
    });
}

const pulling =
  'any other image is pulled when a session names it: --image HOST[:PORT]/NAME:TAG, of a registry that its machine reaches (causeway doctor there)';
