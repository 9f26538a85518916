// Drives the libraries that the original collector is built on, so that a test can hold what they send against what ours
// sends.
//
//     NODE_EXTRA_CA_CERTS=ca.pem node drive.cjs <folder with node_modules> <settings.json>
//
// settings.json: {"alertlogic": "host:port", "login": "host:port", "resourceManager": "host:port", "env": {NAME: value},
// "contentStreams": [...], "folder": a folder that may be written to}. The libraries speak HTTPS to names of Azure's
// that are written into them; those go to the two other addresses. Azure Storage, where they look for statistics, is
// played here: it has no invocations and no queue, as in an app that has just been made.
//
// In order: a Master that starts for the first time and checks in; one that starts again and checks in; a check-in that
// is compressed; deregistration. Exit 0: all of it was answered well.

'use strict';

const http = require('http');
const https = require('https');
const path = require('path');
const { createRequire } = require('module');

const [packageFolder, settingsFile, ...rest] = process.argv.slice(2);
if (!settingsFile || rest.length > 0) {
    console.error('usage: node drive.cjs <folder with node_modules> <settings.json>');
    process.exit(64);
}
const settings = JSON.parse(require('fs').readFileSync(settingsFile, 'utf8'));
const requireVendor = createRequire(path.resolve(packageFolder, 'package.json'));

for (const [name, version] of [['al-azure-collector-js', '2.0.0'], ['al-collector-js', '1.3.0']]) {
    const found = requireVendor(`@alertlogic/${name}/package.json`).version;
    if (found !== version) {
        console.error(`${name} is ${found}, wanted ${version}`);
        process.exit(1);
    }
}

// What they read of the environment, and nothing else of it.
Object.assign(process.env, settings.env, {
    TMP: settings.folder,
    AzureWebJobsStorage: 'DefaultEndpointsProtocol=https;AccountName=teststorage;AccountKey=c2VjcmV0',
});

const PLACES = {
    'login.microsoftonline.com': settings.login,
    'management.azure.com': settings.resourceManager,
};

// What Azure Storage answers in an app that has just been made.
const storage = http.createServer((request, response) => {
    const isTable = /table/.test(request.headers.host);
    request.resume();
    response.statusCode = isTable ? 200 : 404;
    response.setHeader('content-type', isTable ? 'application/json' : 'application/xml');
    response.end(isTable
        ? JSON.stringify({ value: [] })
        : '<?xml version="1.0" encoding="utf-8"?><Error><Code>QueueNotFound</Code><Message>not there</Message></Error>');
});

// Every library asks `http` or `https` for its requests at the moment of the request.
function divert(module, real) {
    module.request = function (options, ...others) {
        if (typeof options === 'string' || options instanceof URL) {
            throw new Error(`a request in a form that is not diverted: ${options}`);
        }
        const name = String(options.hostname || options.host).replace(/:\d+$/, '');
        if (name.endsWith('.core.windows.net')) {
            const diverted = {
                ...options,
                protocol: 'http:',
                host: '127.0.0.1',
                hostname: '127.0.0.1',
                port: storage.address().port,
                agent: undefined,
                headers: { ...options.headers, host: name },
            };
            return realHttp.call(http, diverted, ...others);
        }
        const place = PLACES[name];
        if (place === undefined) {
            if (!/^(localhost|127\.0\.0\.1)$/.test(name)) throw new Error(`a request to ${name}`);
            return real.call(module, options, ...others);
        }
        const [host, port] = place.split(':');
        const diverted = { ...options, host, hostname: host, port, servername: host, agent: undefined };
        return real.call(module, diverted, ...others);
    };
}
const realHttp = http.request;
divert(http, realHttp);
divert(https, https.request);

const silent = () => {};
const log = Object.assign(() => {}, { error: console.error, warn: console.error, info: silent, verbose: silent });
const context = { log, executionContext: { invocationId: 'an-invocation' }, done: silent };

const registration = () => ({
    config: {
        type: 'o365',
        office_tenant_id: process.env.APP_TENANT_ID,
        content_streams: settings.contentStreams,
    },
});

function call(object, method, ...values) {
    return new Promise((resolve, reject) => {
        object[method](...values, (error, value) => (error ? reject(error) : resolve(value)));
    });
}

async function main() {
    const { AlAzureMaster } = requireVendor('@alertlogic/al-azure-collector-js');
    const { AimsC, AzcollectC } = requireVendor('@alertlogic/al-collector-js');
    const functions = ['Master', 'O365WebHook', 'Updater'];
    const master = () => new AlAzureMaster(context, 'o365', '1.4.0', [], null, {}, {}, functions);

    const first = master();
    await call(first, 'register', registration());
    await call(first, 'checkin', new Date().toISOString());

    // It has put the ids and endpoints into the app settings, and so into its environment.
    const second = master();
    await call(second, 'register', registration());
    await call(second, 'checkin', new Date().toISOString());

    const key = {
        access_key_id: process.env.CUSTOMCONNSTR_APP_AL_ACCESS_KEY_ID,
        secret_key: process.env.CUSTOMCONNSTR_APP_AL_SECRET_KEY,
    };
    const aims = new AimsC(settings.alertlogic, key, settings.folder);
    const compressed = new AzcollectC(process.env.APP_AZCOLLECT_ENDPOINT, aims, 'o365', true);
    const all = { ...second.getConfigAttrs(), ...second.getCollectorIds() };
    await compressed.checkin({ ...all, status: 'ok', details: [], statistics: [] });

    await call(second, 'deregister', { ...second.getAzureCreds(), ...registration() });
}

storage.listen(0, '127.0.0.1', () => {
    main()
        .then(() => console.log('all was answered well'))
        .catch((error) => {
            console.error('failed:', error && error.message ? error.message : error);
            process.exitCode = 1;
        })
        .finally(() => storage.close());
});
