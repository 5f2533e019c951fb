/** What a client says on the control channel of a stream. */
import type { z } from 'zod';
import { Refusal } from '../../schema/errors.ts';
import { parseJson } from '../../schema/protocol/json.ts';

/** The message in one DATA of the control channel. @throws Refusal `tunnel_frame_invalid` */
export function parseControl<Shape extends z.ZodType>(shape: Shape, bytes: Uint8Array): z.infer<Shape> {
  try {
    return shape.parse(parseJson(bytes));
  } catch {
    throw new Refusal('tunnel_frame_invalid', 'A message on the control channel is not valid.');
  }
}
