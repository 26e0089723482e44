// BullMQ: one worker, 100 jobs at once, finished jobs not kept.  node bullmq_app.cjs fill COUNT | work
const { Queue, Worker } = require("bullmq");
const fs = require("fs");

const url = new URL(process.env.BENCH_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const kept = { removeOnComplete: true, removeOnFail: true };

async function fill(count) {
  const queue = new Queue("bench", { connection });
  for (let first = 0; first < count; first += 1000) {
    const jobs = [];
    for (let i = first; i < first + 1000; i++) {
      jobs.push({ name: "job", data: `message-${String(i).padStart(8, "0")}`, opts: kept });
    }
    await queue.addBulk(jobs);
  }
  await queue.close();
}

function serverSeconds() {
  const fields = fs.readFileSync(`/proc/${process.env.BENCH_SERVER}/stat`, "utf8").split(") ").pop().split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / 100;
}

function mark(name) {
  const { user, system } = process.cpuUsage();
  const at = Number(process.hrtime.bigint()) / 1e9;
  const line = JSON.stringify({ mark: name, at, client: (user + system) / 1e6, server: serverSeconds() });
  fs.appendFileSync(process.env.BENCH_RESULT, line + "\n");
}

function work() {
  const expected = Number(process.env.BENCH_MESSAGES);
  let number = 0;
  const lap = async () => {
    number += 1;
    if (number === 1) mark("first");
    if (number === expected) mark("last");
  };
  new Worker("bench", lap, { connection, concurrency: 100, ...kept });
}

const [command, count] = process.argv.slice(2);
command === "fill" ? fill(Number(count)) : work();
