import { expect, it } from 'vitest';

import { commandsIn } from '../check-docs.ts';

it('finds the commands of code blocks behind prompts, assignments, pipes and comments, and nothing outside', () => {
  const text = [
    'Type `causeway nowhere`.',
    '```sh',
    '$ PORT=1 causeway up --detach   # in the background',
    'cat script | npx causeway run -- python3 -',
    'npm start && ./causeway status',
    'echo causeway',
    '```',
    'causeway outside',
  ].join('\n');
  expect(commandsIn('README.md', text).map(({ line, words }) => `${line}: ${words.join(' ')}`)).toEqual([
    '3: causeway up --detach',
    '4: causeway run -- python3 -',
    '5: npm start',
    '5: ./causeway status',
  ]);
});
