// Aedes, a broker for MQTT 3.1.1, on TLS and on a WebSocket inside TLS; both want client certificates. Its version here
// runs on the Node.js of Debian 12.
//
//   node aedes.js PKI-FOLDER PORT WEBSOCKET-PORT
import { readFileSync } from 'node:fs'
import { createServer as createHttps } from 'node:https'
import { createServer as createTls } from 'node:tls'
import aedes from 'aedes'
import { createWebSocketStream, WebSocketServer } from 'ws'

const [pki, port, webPort] = process.argv.slice(2)
const file = (name) => readFileSync(`${pki}/${name}`)
const tls = {
  ca: file('ca.pem'),
  cert: file('server.pem'),
  key: file('server.key'),
  requestCert: true,
  rejectUnauthorized: true
}
// Its own bound on client ids is that of MQTT 3.1, 23 bytes.
const broker = aedes({ maxClientsIdLength: 256 })

createTls(tls, broker.handle).listen(Number(port), '127.0.0.1')

const web = createHttps(tls)
const sockets = new WebSocketServer({ server: web, path: '/mqtt', handleProtocols: () => 'mqtt' })
sockets.on('connection', (socket, request) => broker.handle(createWebSocketStream(socket), request))
web.listen(Number(webPort), '127.0.0.1')
