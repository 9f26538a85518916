// Compares request bodies that the collector sent to Alert Logic's ingest with what the vendor's own library makes of the
// same records.
//
//     node compare.mjs <folder with node_modules> <capture folder> <records.ndjson>
//
// The capture folder has NNNN.body (a raw request body) and NNNN.headers (lines `name: value`) per request. Each body is
// inflated and decoded with the vendor's protobuf classes; its records are looked up in the records file and handed, in
// the same order, to the vendor's `buildPayload`; the two are compared field by field, and the protobuf byte by byte.
// Exit 0: all equal. Exit 1: something differs, or there was nothing to compare. Exit 64: wrong arguments.

import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { createRequire } from 'node:module';
import { isDeepStrictEqual } from 'node:util';

// The vendor's parser reads a time without a zone in the machine's zone. On Azure that is UTC.
process.env.TZ = 'UTC';

const [packageFolder, captureFolder, recordsFile, ...rest] = process.argv.slice(2);
if (!recordsFile || rest.length > 0) {
    console.error('usage: node compare.mjs <folder with node_modules> <capture folder> <records.ndjson>');
    process.exit(64);
}

const WANTED_VERSION = '3.0.20';
const requireVendor = createRequire(path.resolve(packageFolder, 'package.json'));
const { version } = requireVendor('@alertlogic/al-collector-js/package.json');
if (version !== WANTED_VERSION) {
    console.error(`al-collector-js is ${version}, wanted ${WANTED_VERSION}`);
    process.exit(1);
}
const { AlLog, Parse } = requireVendor('@alertlogic/al-collector-js');
const BatchList = AlLog.CommonProto.collected_batch_list;

// Differences are counted all, shown up to this many.
const SHOWN = 20;
let differences = 0;
function differs(where, what, ours, vendors) {
    differences += 1;
    if (differences <= SHOWN) {
        const show = (value) => (value === undefined ? '' : `\n  ${String(value).slice(0, 300)}`);
        console.error(`${where}: ${what}${show(ours)}${show(vendors)}`);
    }
}

const records = fs.readFileSync(recordsFile, 'utf8').split('\n').filter((line) => line.trim() !== '');
const byText = new Map(records.map((text) => [text, text]));
// What is sent is compact. A file that is not written so is found by what its lines say.
const byId = new Map();
for (const text of records) {
    const { Id: id } = JSON.parse(text);
    if (typeof id === 'string') byId.set(id, byId.has(id) ? null : text);
}

function recordOf(message) {
    const exact = byText.get(message);
    if (exact !== undefined) return exact;
    try {
        return byId.get(JSON.parse(message).Id) ?? undefined;
    } catch {
        return undefined;
    }
}

// Every string token written as JSON.stringify writes it, white space between tokens dropped, all else as it is: what is
// left of a difference after this is not one of escapes.
function withPlainEscapes(text) {
    return text.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (token) => (token[0] === '"' ? JSON.stringify(JSON.parse(token)) : ''));
}

// What the original collector makes of a record, by the vendor's parser.
function parseRecord(text, message) {
    const record = JSON.parse(text);
    const ts = Parse.getMsgTs(record, [{ path: ['CreationTime'] }]);
    const typeId = Parse.getMsgTypeId(record, [{ path: ['RecordType'] }]);
    return {
        messageTs: ts.sec,
        priority: 11,
        progName: 'o365webhook',
        pid: undefined,
        message: message ?? JSON.stringify(record),
        messageType: 'json/azure.o365',
        messageTypeId: typeId === null ? undefined : `${typeId}`,
        messageTsUs: ts.usec === null ? undefined : ts.usec,
    };
}

function build(batch, elements, content, parseCallback) {
    // Records without a time get the present, and so does the metadata: both sides must have the same one.
    const realNow = Date.now;
    Date.now = () => Number(batch.metadata.timestamp.toString()) * 1000;
    const params = {
        hostId: batch.metadata.hostUuid,
        sourceId: batch.sourceId,
        hostmetaElems: elements,
        content,
        parseCallback,
    };
    return new Promise((resolve, reject) => {
        AlLog.buildPayload(params, (error, built) => (error ? reject(new Error(String(error))) : resolve(built.payload)));
    })
        .finally(() => {
            Date.now = realNow;
        })
        .then((payload) => zlib.inflateSync(payload));
}

// Numbers as exact decimal text (64-bit ones are objects or numbers, as the library likes), bytes as hex.
function plain(value) {
    if (value === undefined || value === null) return value;
    if (Buffer.isBuffer(value) || value instanceof Uint8Array) return Buffer.from(value).toString('hex');
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value === 'object') {
        if (typeof value.low === 'number' && typeof value.high === 'number') return value.toString();
        return Object.fromEntries(Object.keys(value).map((key) => [key, plain(value[key])]));
    }
    return typeof value === 'number' ? value.toString() : value;
}

function compareFields(where, ours, vendors, except) {
    const [left, right] = [plain(ours), plain(vendors)];
    for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
        if (!except.includes(key) && !isDeepStrictEqual(left[key], right[key])) {
            differs(where, `${key} differs`, JSON.stringify(left[key]), JSON.stringify(right[key]));
        }
    }
}

const WANTED_HEADERS = {
    accept: (value) => value === 'application/json',
    'content-type': (value) => value === 'alertlogic.com/lm3-protobuf',
    'content-encoding': (value) => value === 'deflate',
    'x-invoked-by': (value) => value === 'azure_function',
    'x-aims-auth-token': (value) => value !== '',
    'content-length': (value, body) => value === String(body.length),
};

function compareHeaders(where, text, body) {
    const headers = new Map();
    for (const line of text.split(/\r?\n/).filter((line) => line !== '')) {
        const colon = line.indexOf(':');
        const name = line.slice(0, colon).trim().toLowerCase();
        if (headers.has(name)) differs(where, `header ${name} twice`);
        headers.set(name, line.slice(colon + 1).trim());
    }
    for (const [name, isWanted] of Object.entries(WANTED_HEADERS)) {
        if (!headers.has(name)) differs(where, `header ${name} is missing`);
        // The token's value is nobody's business.
        else if (!isWanted(headers.get(name), body)) differs(where, `header ${name} has another value`);
    }
}

const count = { bodies: 0, records: 0, escapes: 0, spellings: 0 };
const found = new Set();

async function compareBody(where, body) {
    if (body.length > AlLog.PAYLOAD_BATCH_SIZE) differs(where, `${body.length} bytes, the vendor's library stops before`);
    if (body.readUInt16BE(0) !== 0x789c) differs(where, 'the zlib stream does not begin 78 9c');
    const raw = zlib.inflateSync(body);
    const list = BatchList.decode(raw);
    if (list.elem.length !== 1) {
        differs(where, `${list.elem.length} batches, the vendor's library sends one`);
        return;
    }
    const [batch] = list.elem;
    const elements = (batch.metadata.data?.elem ?? []).map(({ key, value }) => ({ key, value: { str: value?.str } }));
    const keys = elements.map(({ key }) => key);
    if (!isDeepStrictEqual(keys, ['host_type', 'local_hostname'])) differs(where, 'host metadata has other keys', keys);
    if (elements[0]?.value.str !== 'azure_fun') differs(where, 'host_type differs', elements[0]?.value.str);
    if (!batch.message.length) differs(where, 'no messages');

    const texts = batch.message.map(({ message }, index) => {
        const text = recordOf(message);
        if (text === undefined) differs(where, `message ${index} is no record of the file`, message);
        else found.add(text);
        return text;
    });
    if (texts.includes(undefined)) return;

    const vendors = BatchList.decode(await build(batch, elements, texts, (text) => parseRecord(text))).elem[0];
    compareFields(where, batch, vendors, ['metadata', 'message']);
    compareFields(`${where} metadata`, batch.metadata, vendors.metadata, ['timestamp']);
    if (batch.message.length !== vendors.message.length) {
        differs(where, 'another number of messages', batch.message.length, vendors.message.length);
        return;
    }
    batch.message.forEach((ours, index) => {
        const theirs = vendors.message[index];
        compareFields(`${where} message ${index}`, ours, theirs, ['message']);
        if (ours.message === theirs.message) return;
        if (withPlainEscapes(ours.message) === theirs.message) {
            count.escapes += 1;
            if (isDeepStrictEqual(JSON.parse(ours.message), JSON.parse(theirs.message))) return;
        } else if (isDeepStrictEqual(JSON.parse(ours.message), JSON.parse(theirs.message))) {
            // A number beyond 2^53 or with a needless zero, or keys that are numbers: JavaScript writes those anew.
            count.spellings += 1;
            return;
        }
        differs(`${where} message ${index}`, 'message differs', ours.message, theirs.message);
    });

    // With our spelling of the texts the whole must come out the same, which also finds fields that the classes skip.
    let next = 0;
    const same = await build(batch, elements, texts, (text) => parseRecord(text, batch.message[next++].message));
    if (!same.equals(raw)) differs(where, `the protobuf's bytes differ (${raw.length} and ${same.length} bytes)`);

    count.bodies += 1;
    count.records += batch.message.length;
}

for (const name of fs.readdirSync(captureFolder).filter((name) => name.endsWith('.body')).sort()) {
    const where = name.slice(0, -'.body'.length);
    const body = fs.readFileSync(path.join(captureFolder, name));
    try {
        compareHeaders(where, fs.readFileSync(path.join(captureFolder, `${where}.headers`), 'latin1'), body);
        await compareBody(where, body);
    } catch (error) {
        differs(where, `cannot be compared: ${error.message}`);
    }
}

if (count.escapes) {
    console.log(`${count.escapes} messages differ from JSON.stringify's text by escapes only, their values are equal`);
}
if (count.spellings) {
    console.log(`${count.spellings} messages are spelled otherwise than JSON.stringify's (numbers, key order), their values are equal`);
}
const unseen = new Set(records).size - found.size;
if (unseen) console.log(`${unseen} records of the file are in no body`);
console.log(`compared ${count.bodies} bodies, ${count.records} records, ${differences} differences`);
process.exitCode = differences > 0 || count.bodies === 0 || count.records === 0 ? 1 : 0;
