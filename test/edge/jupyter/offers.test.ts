/** What kernels are offered, by the names of images. */
import { describe, expect, it } from 'vitest';
import { requireOffer, toOffers } from '../../../edge/manager/jupyter/offers.ts';
import { defaultPresets } from '../../../schema/api/preset.ts';

const gib = 1024 ** 3;
const [small] = defaultPresets;
const shown = (named: string[][], totals = [{ cpu: 2000, mem: 4 * gib }]) =>
  toOffers(named, defaultPresets, totals).map(({ name, displayName, image }) => [name, displayName, image]);

describe('an offer', () => {
  it('is made of each image that sounds like Jupyter, by the best of its names', () => {
    const named = [
      ['causeway/python:0a1b2c3d4e5f', 'causeway/python:latest'],
      ['registry.test:5000/lab/scipy-notebook:2026-01-01', 'registry.test:5000/lab/scipy-notebook:x'],
      ['busybox:1'],
      ['julia:1.11', 'julia:latest'],
      ['python@sha256:00', '<none>:<none>'],
    ];
    expect(shown(named)).toEqual([
      ['causeway-python.small', 'Python - 1 CPU - 2 GB (causeway/python:latest)', 'causeway/python:latest'],
      [
        'registry.test-5000-lab-scipy-notebook-2026-01-01.small',
        'Python - 1 CPU - 2 GB (registry.test:5000/lab/scipy-notebook:2026-01-01)',
        'registry.test:5000/lab/scipy-notebook:2026-01-01',
      ],
      ['julia-1.11.small', 'Julia 1.11 - 1 CPU - 2 GB', 'julia:1.11'],
    ]);
  });

  it('names its image where several would look the same, and never twice the same', () => {
    expect(shown([['a/python:3'], ['b/python:3'], ['a-python:3']])).toEqual([
      ['a-python-3.small', 'Python 3 - 1 CPU - 2 GB (a-python:3)', 'a-python:3'],
      ['b-python-3.small', 'Python 3 - 1 CPU - 2 GB (b/python:3)', 'b/python:3'],
    ]);
  });

  it('is there for what an agent could hold, a GPU among it; for none the smallest stays', () => {
    const names = (totals: Record<string, number>[]) =>
      toOffers([['python:3']], defaultPresets, totals as never).map(({ displayName }) => displayName);
    expect(names([{ cpu: 64_000, mem: 512 * gib, 'cuda.device': 8 }])).toEqual([
      'Python 3 - 1 CPU - 2 GB',
      'Python 3 - 4 CPU - 8 GB',
      'Python 3 - 4 CPU - 16 GB - 1 GPU',
    ]);
    expect(names([{ cpu: 500, mem: gib }])).toEqual(['Python 3 - 1 CPU - 2 GB']);
    expect(names([])).toHaveLength(3);
  });

  it('is found by its name, by its language, by `python3`, and by nothing', () => {
    const offers = toOffers([['octave:9'], ['python:3.13']], [small!], []);
    const found = (name: string | undefined) => requireOffer(offers, name).name;
    expect([undefined, '', 'python3', 'python', 'python-3.13.small', 'octave', 'Octave'].map(found)).toEqual([
      'python-3.13.small',
      'python-3.13.small',
      'python-3.13.small',
      'python-3.13.small',
      'python-3.13.small',
      'octave-9.small',
      'octave-9.small',
    ]);
    expect(() => requireOffer(offers, 'cobol')).toThrow('no kernel of this name');
    expect(() => requireOffer([], undefined)).toThrow('No connected agent');
  });
});
