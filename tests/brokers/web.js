// A WebSocket inside TLS in front of a broker that has none, as web proxies are put: what comes in over it goes on to the
// broker's TLS port. Both sides want client certificates; the broker sees this one's.
//
//   node web.js PKI-FOLDER BROKER-PORT WEBSOCKET-PORT
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { pipeline } from 'node:stream'
import { connect } from 'node:tls'
import { createWebSocketStream, WebSocketServer } from 'ws'

const [pki, port, webPort] = process.argv.slice(2)
const file = (name) => readFileSync(`${pki}/${name}`)
const ca = file('ca.pem')
const server = { ca, cert: file('server.pem'), key: file('server.key'), requestCert: true, rejectUnauthorized: true }
const client = { ca, cert: file('gateway.pem'), key: file('gateway.key'), host: 'localhost', port: Number(port) }

const web = createServer(server)
const sockets = new WebSocketServer({ server: web, path: '/mqtt', handleProtocols: () => 'mqtt' })
sockets.on('connection', (socket) => {
  const near = createWebSocketStream(socket)
  const far = connect(client)
  // Whichever side ends first ends the other, and errors are no more than an end.
  pipeline(near, far, () => far.destroy())
  pipeline(far, near, () => near.destroy())
})
web.listen(Number(webPort), '127.0.0.1')
