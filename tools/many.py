"""Run jobs from a list on one GPU with many processes; pack what came of them."""
import argparse, json, os, subprocess, sys, tarfile, time, traceback
from pathlib import Path
import multiprocessing as mp

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
T0 = time.time()


def setenv():
    for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[k] = "1"
    os.environ.update(TQDM_DISABLE="1", COURSE_DATA=os.environ.get("COURSE_DATA", str(HERE / "data")),
                      CUDA_MODULE_LOADING="LAZY", PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")


def bench_worker(i, start, stop, counts, ready):
    import torch
    import course_lib as cl
    from course_lib.train import fit
    torch.set_num_threads(1)
    from course_lib import recipes
    x = cl.Images(torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8))
    s = recipes.recipe("simclr", "laptop")
    m = recipes.build_method(s, x)
    n = [0]
    def cb(*_):
        n[0] += 8
        if n[0] == 16:
            torch.cuda.synchronize() if torch.cuda.is_available() else None
            ready.release(); start.wait(); n[0] = 17
        if n[0] > 17 and stop.is_set():
            raise KeyboardInterrupt
        counts[i] = n[0]
    try:
        fit(m, x, **{**s.fit, "epochs": 10000}, callbacks=[cb])
    except KeyboardInterrupt:
        pass


def bench(n, seconds=7):
    ctx = mp.get_context("spawn")
    start, stop, ready = ctx.Event(), ctx.Event(), ctx.Semaphore(0)
    counts = ctx.Array("i", n)
    ps = [ctx.Process(target=bench_worker, args=(i, start, stop, counts, ready)) for i in range(n)]
    [p.start() for p in ps]
    for _ in ps:
        if not ready.acquire(timeout=40):
            print("bench: not ready", flush=True); break
    a = list(counts); start.set(); t = time.time(); time.sleep(seconds); b = list(counts); d = time.time() - t
    stop.set(); time.sleep(.3); [p.kill() for p in ps]; [p.join() for p in ps]
    rate = sum(b) / d - 17 * 0
    print(f"bench n={n}: {rate:.1f} steps/s, each {d * n / max(1, sum(b)) * 1000:.1f} ms", flush=True)
    return rate


def mps(on):
    env = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps", "CUDA_MPS_LOG_DIRECTORY": "/tmp/mpslog"}
    if on:
        os.makedirs("/tmp/mps", exist_ok=True); os.makedirs("/tmp/mpslog", exist_ok=True)
        r = subprocess.run(["nvidia-cuda-mps-control", "-d"], env=env, capture_output=True, text=True)
        print("mps start", r.returncode, r.stdout[-200:], r.stderr[-200:], flush=True)
        if r.returncode == 0:
            os.environ.update(CUDA_MPS_PIPE_DIRECTORY="/tmp/mps", CUDA_MPS_LOG_DIRECTORY="/tmp/mpslog")
        return r.returncode == 0
    subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", env=env, capture_output=True, text=True)
    for k in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        os.environ.pop(k, None)


def worker(i, jobs, taken, done, lock, log, assets, deadline):
    import torch
    torch.set_num_threads(1)
    from course_lib import few, runs
    from course_lib.cli import pictures_of
    from course_lib.data import load
    data = {}

    def pictures(name, profile):
        if (name, profile) not in data:
            data[name, profile] = pictures_of(name, profile)
        return data[name, profile]
    while time.time() < deadline:
        pick = None
        with lock:
            ready = False
            for k, job in enumerate(jobs):
                if taken[k]:
                    continue
                deps = [j for j, other in enumerate(jobs) if other.get("key") in job.get("after", ())]
                if all(done[j] for j in deps):
                    pick = k; taken[k] = 1; break
                ready = True
            if pick is None and not ready:
                return
        if pick is None:
            time.sleep(.5); continue
        job = jobs[pick]; t = time.time()
        try:
            run = runs.Run(job["name"], job["data"], job["profile"], job["seed"], Path(assets))
            if job["kind"] == "run":
                if not run.exists:
                    r = run.train(pictures(job["data"], job["profile"]))
                else:
                    r = run.result
                text = f"{r['seconds']:.0f}s lin {r['measures'].get('linear_val', 0):.1f} knn {r['measures'].get('knn_val', 0):.1f} test {r['measures'].get('linear_top1', 0):.1f}"
            else:
                few.measure(run, pictures(job["data"], job["profile"])); text = "few"
            done[pick] = 1
        except Exception as e:
            text = "FAILED " + repr(e)[:300]
            (Path(assets) / f"error-{pick}.txt").write_text(traceback.format_exc())
            done[pick] = 2
        with lock:
            with open(log, "a") as f:
                f.write(f"{time.time() - T0:.0f} w{i} {time.time() - t:.0f}s {job['kind']} {job['name']} {job['data']} {job['seed']}: {text}\n")


def jobs_of(path):
    out = []
    from course_lib import recipes
    for line in Path(path).read_text().splitlines():
        line = line.split("#")[0].split()
        if not line:
            continue
        kind, names = line[0], line[1:]
        opts = dict(x.split("=") for x in names if "=" in x)
        for n in (x for x in names if "=" not in x):
            seeds = [0] if kind == "few" else recipes.seeds(n)
            if "seed" in opts:
                seeds = [int(opts["seed"])]
            for s in seeds:
                out.append({"kind": kind, "name": n, "data": opts.get("data", "cifar10"), "profile": opts.get("profile", "laptop"), "seed": s})
    for j in out:
        if j["kind"] == "run":
            j["key"] = f"{j['name']}:{j['data']}:{j['seed']}"
        else:
            j["after"] = [f"{j['name']}:{j['data']}:0"]
    return out


def pack(assets, out):
    from course_lib import recipes, runs
    out = Path(out); assets = Path(assets)
    with tarfile.open(out / "results.tar.xz", "w:xz") as t:
        for p in sorted(assets.rglob("*.json")) + sorted(assets.glob("error-*")):
            t.add(p, p.relative_to(assets))
    sent = set(Path("/tmp/sent").read_text().split()) if Path("/tmp/sent").exists() else set()
    wanted = []
    for folder in sorted((assets / "results").glob("*")):
        if not folder.is_dir():
            continue
        found = {}
        for p in folder.glob("*-seed0.json"):
            r = json.loads(p.read_text()); found[r["name"]] = r
        for base, rec in recipes.RECIPES.items():
            tries = [n for n in (base, *(f"{base}_{w}" for w in rec.variants if len(w) == 1)) if n in found]
            if not tries or not rec.fit:
                continue
            best = max(tries, key=lambda n: found[n]["measures"].get("linear_val", 0))
            for n in {best, base} if base in found and base in ("rotation", "mae", "byol", "vicreg") else {best}:
                for part in recipes.ships(base):
                    if part in found[n]["files"]:
                        wanted.append(assets / found[n]["files"][part]["path"])
        for n, r in found.items():
            if n in recipes.VARIANTS:
                for part in recipes.ships(n):
                    if part in r["files"]:
                        wanted.append(assets / r["files"][part]["path"])
    wanted = [p for p in dict.fromkeys(wanted) if p.exists() and p.name + str(p.parent.name) not in sent]
    wanted.sort(key=lambda p: -p.stat().st_size)
    bins = []
    for p in wanted:
        size = p.stat().st_size + 2048
        for b in bins:
            if b[0] + size < 15.9e6:
                b[0] += size; b[1].append(p); break
        else:
            bins.append([size, [p]])
    total = 0
    for k, (size, ps) in enumerate(bins[:6]):
        if total + size > 61e6:
            break
        total += size
        with tarfile.open(out / f"weights-{k}.tar", "w") as t:
            for p in ps:
                t.add(p, p.relative_to(assets)); sent.add(p.name + str(p.parent.name))
    Path("/tmp/sent").write_text("\n".join(sent))
    print(f"packed {total / 1e6:.1f} MB of weights of {len(wanted)} files in {min(6, len(bins))} of {len(bins)} bins", flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("mode"); ap.add_argument("--jobs"); ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--workers", type=int, default=0); ap.add_argument("--out", default="/tmp/out"); ap.add_argument("--assets", default="/tmp/assets")
    ap.add_argument("--mps", default="auto")
    a = ap.parse_args()
    setenv()
    Path(a.out).mkdir(parents=True, exist_ok=True)
    if a.mode == "bench":
        plain = {n: bench(n) for n in (1, 14)}
        ok = mps(True)
        with_mps = {n: bench(n) for n in (14,)} if ok else {}
        use = bool(with_mps) and with_mps[14] > 1.1 * plain[14]
        if ok and not use:
            mps(False)
        Path("/tmp/choice").write_text("mps" if use else "plain")
        print("choice", Path("/tmp/choice").read_text(), f"after {time.time() - T0:.0f}s", flush=True)
        return
    choice = Path("/tmp/choice").read_text() if Path("/tmp/choice").exists() else "plain"
    if choice == "mps":
        if not subprocess.run("pgrep nvidia-cuda-mps", shell=True, capture_output=True).stdout:
            mps(True)
        os.environ.update(CUDA_MPS_PIPE_DIRECTORY="/tmp/mps", CUDA_MPS_LOG_DIRECTORY="/tmp/mpslog")
    assets = Path(a.assets); assets.mkdir(parents=True, exist_ok=True)
    if (HERE / "seed-assets").exists() and not (assets / "results").exists():
        import shutil
        shutil.copytree(HERE / "seed-assets", assets, dirs_exist_ok=True)
    jobs = jobs_of(a.jobs)
    ctx = mp.get_context("spawn")
    taken, done, lock = ctx.Array("i", len(jobs)), ctx.Array("i", len(jobs)), ctx.Lock()
    log = str(Path(a.out) / "log.txt"); deadline = T0 + a.seconds
    n = a.workers or max(1, os.cpu_count() - 1)
    ps = [ctx.Process(target=worker, args=(i, jobs, taken, done, lock, log, str(assets), deadline)) for i in range(n)]
    [p.start() for p in ps]
    half = False
    while any(p.is_alive() for p in ps) and time.time() < deadline:
        time.sleep(.5)
        if not half and time.time() > T0 + .6 * a.seconds:
            half = True
            pack_results_only(assets, a.out)
    left = [f"{j['name']}:{j['seed']}" for j, d in zip(jobs, done) if not d]
    [p.kill() for p in ps]
    pack(assets, a.out)
    print(Path(log).read_text()[-9000:] if Path(log).exists() else "no log")
    print(f"end after {time.time() - T0:.0f}s; failed {sum(d == 2 for d in done)}; not done {len(left)}: {' '.join(left)}", flush=True)


def pack_results_only(assets, out):
    with tarfile.open(Path(out) / "half.tar.xz", "w:xz") as t:
        for p in sorted(Path(assets).rglob("*.json")):
            t.add(p, p.relative_to(assets))


if __name__ == "__main__":
    main()
