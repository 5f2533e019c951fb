/** Images that agents have: from each ledger of the actor's reach, merged by content. Truth is on the agents. */
import type { Image } from '../../../schema/api/image.ts';
import type { UserCtx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { reachedGroups } from '../accounts/manage-domains.ts';

/** Ledgers that one request asks. */
const groupsAsked = 20;

/** By content, those that most agents have first. */
export async function listImages(ctx: UserCtx): Promise<Image[]> {
  const groups = (await reachedGroups(ctx)).slice(0, groupsAsked);
  const answers = await Promise.all(groups.map(({ number }) => ledgerObject(ctx.env, number).images()));
  const merged = new Map<string, Image>();
  for (const { images } of answers.flat())
    for (const { digest, names, sizeBytes } of images) {
      const known = merged.get(digest) ?? { digest, names: [], sizeBytes, agents: 0 };
      merged.set(digest, { ...known, names: [...new Set([...known.names, ...names])], agents: known.agents + 1 });
    }
  return [...merged.values()].sort((a, b) => b.agents - a.agents || (a.digest < b.digest ? -1 : 1));
}
