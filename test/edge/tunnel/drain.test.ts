import { expect, it } from 'vitest';

import { bootstrapped, bootstrapSecret, call } from '../client.ts';

it('opens the door to drain a machine to its own process alone, and has none in production', async () => {
  const { token } = await bootstrapped();
  expect(await call('POST', '/internal/drain')).toMatchObject({ status: 401 });
  expect(await call('POST', '/internal/drain', { token })).toMatchObject({ status: 401 });
  expect(await call('POST', '/internal/drain', { token: bootstrapSecret })).toMatchObject({ status: 404 });
});
