/**
 * The rules of OpenAPI 3.1.0 that a document of ours can break: which fields each object may and must have, and which
 * keywords a schema (JSON Schema 2020-12) may use. From https://spec.openapis.org/oas/v3.1.0; written as structural checks.
 */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Rule = (value: Json, at: string) => string[];

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const text: Rule = (value, at) => (typeof value === 'string' && value !== '' ? [] : [`${at}: no text`]);
const flag: Rule = (value, at) => (typeof value === 'boolean' ? [] : [`${at}: neither true nor false`]);
const oneOf =
  (...allowed: Json[]): Rule =>
  (value, at) =>
    allowed.includes(value) ? [] : [`${at}: not one of ${allowed.join(', ')}`];
const listOf =
  (rule: Rule): Rule =>
  (value, at) =>
    Array.isArray(value) ? value.flatMap((each, index) => rule(each, `${at}[${index}]`)) : [`${at}: no list`];
const mapOf =
  (key: RegExp, rule: Rule): Rule =>
  (value, at) =>
    isObject(value)
      ? Object.entries(value).flatMap(([name, each]) =>
          key.test(name) ? rule(each, `${at}.${name}`) : [`${at}: ${name} is no name here`],
        )
      : [`${at}: no object`];

/** Fields by name; those with `!` must be there. Extensions (`x-`) may be anywhere. */
function object(fields: Record<string, Rule>): Rule {
  return (value, at) => {
    if (!isObject(value)) return [`${at}: no object`];
    const missing = Object.keys(fields).filter((name) => name.endsWith('!') && !(name.slice(0, -1) in value));
    const faults = Object.entries(value).flatMap(([name, each]) => {
      const rule = fields[name] ?? fields[`${name}!`];
      if (rule) return rule(each, `${at}.${name}`);
      return name.startsWith('x-') ? [] : [`${at}: ${name} is no field here`];
    });
    return [...missing.map((name) => `${at}: ${name.slice(0, -1)} is missing`), ...faults];
  };
}

const types = ['string', 'number', 'integer', 'boolean', 'object', 'array', 'null'];
const anything: Rule = () => [];
const whole: Rule = (value, at) => (Number.isInteger(value) && Number(value) >= 0 ? [] : [`${at}: no whole number`]);
const number: Rule = (value, at) => (typeof value === 'number' ? [] : [`${at}: no number`]);
const pattern: Rule = (value, at) => {
  try {
    void new RegExp(String(value), 'u');
    return [];
  } catch {
    return [`${at}: no pattern`];
  }
};
const schema: Rule = (value, at) => (typeof value === 'boolean' ? [] : schemaObject(value, at));
const schemas: Rule = (value, at) => listOf(schema)(value, at);
const schemaMap: Rule = (value, at) => mapOf(/^/, schema)(value, at);
const schemaObject = object({
  $ref: (value, at) => (/^#\/components\/schemas\/[\w.-]+$/.test(String(value)) ? [] : [`${at}: ${String(value)}`]),
  type: (value, at) => (Array.isArray(value) ? listOf(oneOf(...types))(value, at) : oneOf(...types)(value, at)),
  properties: schemaMap,
  patternProperties: schemaMap,
  additionalProperties: schema,
  propertyNames: schema,
  required: listOf(text),
  items: schema,
  prefixItems: schemas,
  allOf: schemas,
  anyOf: schemas,
  oneOf: schemas,
  not: schema,
  enum: listOf(anything),
  const: anything,
  default: anything,
  format: text,
  pattern,
  title: text,
  description: text,
  examples: listOf(anything),
  contentEncoding: text,
  minLength: whole,
  maxLength: whole,
  minItems: whole,
  maxItems: whole,
  minProperties: whole,
  maxProperties: whole,
  minimum: number,
  maximum: number,
  exclusiveMinimum: number,
  exclusiveMaximum: number,
  multipleOf: number,
});

const mediaTypes = mapOf(/^[a-z]+\/[a-z0-9.+*-]+$/, object({ schema }));
const headers = mapOf(/^[A-Za-z-]+$/, object({ description: text, required: flag, 'schema!': schema }));
const parameter: Rule = (value, at) => {
  const inPath = isObject(value) && value['in'] === 'path' && value['required'] !== true;
  const rules = object({
    'name!': text,
    'in!': oneOf('path', 'query', 'header'),
    description: text,
    required: flag,
    'schema!': schema,
  });
  return [...rules(value, at), ...(inPath ? [`${at}: a path parameter must be required`] : [])];
};
const response = object({ 'description!': text, headers, content: mediaTypes });
const operation = object({
  'operationId!': text,
  'summary!': text,
  'tags!': listOf(text),
  'security!': listOf(mapOf(/^[\w.-]+$/, listOf(text))),
  'responses!': mapOf(/^([1-5]\d\d|default)$/, response),
  parameters: listOf(parameter),
  requestBody: object({ description: text, required: flag, 'content!': mediaTypes }),
});
const methods = /^(get|put|post|delete|options|head|patch|trace)$/;
const document = object({
  'openapi!': (value, at) => (/^3\.1\.\d+$/.test(String(value)) ? [] : [`${at}: not 3.1`]),
  'info!': object({ 'title!': text, 'version!': text, description: text }),
  servers: listOf(object({ 'url!': text })),
  'paths!': mapOf(/^\//, mapOf(methods, operation)),
  webhooks: mapOf(/^/, mapOf(methods, operation)),
  components: object({
    schemas: mapOf(/^[\w.-]+$/, schema),
    securitySchemes: mapOf(/^[\w.-]+$/, object({ 'type!': oneOf('http'), 'scheme!': oneOf('bearer') })),
    parameters: mapOf(/^[\w.-]+$/, parameter),
  }),
});

/** What of the document is not as the specification says; empty when all is. */
export function faultsOfOpenApi(value: unknown): string[] {
  return document(value as Json, '#');
}
