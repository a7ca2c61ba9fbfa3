"""The command line: one verb each for the nine jobs; every verb imports only what it needs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from neuroav import __version__, interrupts
from neuroav.checks import NeuroavError, fail
from neuroav.files import check_output

EXAMPLES = """examples:
  neuroav demo                                   everything on embedded data, with a report, in minutes
  neuroav events clip.mp4 -o events.h5           video to events, streamed
  neuroav extract clips/ --labels labels.csv --vectors vectors.npz -o store.h5
  neuroav extract --from-avca avgzsl_benchmark_datasets/UCF -o ucf.h5
  neuroav run experiments/mdft.py:quick --out runs/mdft      MDFT, about two minutes
  neuroav eval runs/mdft
  neuroav table mdft.table2 --data motionscenes  a paper's table beside ours
  neuroav classify clip.mp4 --run runs/mdft --classes "circle clockwise slow, spin fast" --draw answer.mp4
  neuroav energy runs/mdft --out runs/energy     operations, estimated and measured energy
"""

OF_CLIPS = ("folder", "labels", "workers", "cluster", "video_encoder", "audio_encoder")
CONVERSION = ("out", "preset", "contrast", "set", "seed", "roi", "format", "clip", "from_zero", "labels", "preview")
KEPT = ("config.json", "versions.json", "results.json", "energy.json", "table.json")
RESUMED = ("demo", "run", "table", "extract")
FOLLOWING = ("patience", "window")  # options of classify --follow alone
PUBLISHED = ("dataset", "split", "text_order")  # options of --from-avca and --from-tcaf alone


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HxW such as 240x320, got {text!r}") from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"expected HxW with both at least 1, got {text!r}")
    return height, width


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        top, left, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected TOP,LEFT,HEIGHT,WIDTH, got {text!r}") from None
    return top, left, height, width


def _demo(args: argparse.Namespace) -> int:
    from neuroav.demo import demo_command

    return demo_command(size=args.size, out=args.out, seed=args.seed, workers=args.workers, json_path=args.json)


def _run(args: argparse.Namespace) -> int:
    from neuroav.run import run_command

    return run_command(
        args.experiment,
        overrides=args.set,
        out=args.out,
        json_path=args.json,
        tensorboard=args.tensorboard,
        workers=args.workers,
    )


def _eval(args: argparse.Namespace) -> int:
    from neuroav.run import eval_command

    return eval_command(args.run_dir, json_path=args.json)


def _events(args: argparse.Namespace) -> int:
    if args.info:
        _refuse(args, "neuroav events --info", "no options of a conversion", CONVERSION)
    from neuroav.events.command import camera_from_options, events_command

    of_camera = (args.preset, args.contrast, args.set, args.seed)
    return events_command(
        args.inputs,
        args.out,
        camera=None if of_camera == (None, None, [], None) else camera_from_options(*of_camera),
        size=args.size,
        roi=args.roi,
        format=args.format,
        clip=args.clip,
        from_zero=args.from_zero,
        labels=args.labels,
        preview=args.preview,
        info=args.info,
        workers=args.workers,
        cluster=args.cluster,
        json_path=args.json,
    )


def _extract(args: argparse.Namespace) -> int:
    if args.from_avca is not None or args.from_tcaf is not None:
        return _convert(args)
    if args.simulate is not None:
        _refuse(args, "neuroav extract --simulate", "no options of clips or archives", (*OF_CLIPS, "align", *PUBLISHED))
        from neuroav.data.synthetic import simulate_command

        return simulate_command(
            args.simulate, args.features or "main", args.out, vectors=args.vectors or "", json_path=args.json
        )
    _refuse(args, "neuroav extract", "none of the options of --simulate or --from-avca", ("features", *PUBLISHED))
    missing = [name for name in ("folder", "labels", "vectors") if getattr(args, name) is None]
    if missing:
        raise fail(
            "neuroav extract",
            "DIR, --labels and --vectors, or --simulate, --from-avca or --from-tcaf",
            "no " + " and no ".join(missing),
        )
    from neuroav.data.extract import extract_command

    return extract_command(
        args.folder,
        labels=args.labels,
        vectors=args.vectors,
        out=args.out,
        workers=args.workers,
        json_path=args.json,
        cluster=args.cluster,
        video_encoder=args.video_encoder or "classic",
        audio_encoder=args.audio_encoder or "classic",
        align=args.align,
    )


def _convert(args: argparse.Namespace) -> int:
    layout, unused = ("avca", "from_tcaf") if args.from_avca is not None else ("tcaf", "from_avca")
    other = (*OF_CLIPS, "vectors", "simulate", unused)
    _refuse(args, f"neuroav extract --from-{layout}", "none of the options of clips or --simulate", other)
    from neuroav.data.convert import convert_command

    return convert_command(
        layout,
        args.from_avca or args.from_tcaf,
        args.out,
        dataset=args.dataset,
        features=args.features,
        split=args.split,
        text_order=args.text_order or "by_name",
        align=args.align,
        json_path=args.json,
    )


def _check_json(args: argparse.Namespace) -> None:
    """Refuse ``--json`` onto what another option names, what a run holds, or a file that isn't JSON."""
    if args.json is None:
        return
    check_output("--json", args.json)
    path, mine = Path(args.json), "a file of its own"
    values = [value for name, value in vars(args).items() if name != "json"]
    named = [each for value in values for each in (value if isinstance(value, list) else [value])]
    if any(isinstance(each, str) and Path(each).resolve() == path.resolve() for each in named):
        raise fail("--json", mine, f"{path}, which is named twice")
    if path.is_file():
        if path.name in KEPT:
            raise fail("--json", mine, f"{path}, which a run or a table holds", "Choose another name.")
        with path.open("rb") as file:
            if file.read(64).lstrip()[:1] not in (b"", b"{"):
                raise fail("--json", "a new file, or one of JSON to replace", f"{path}, which is neither")


def _refuse(args: argparse.Namespace, where: str, expected: str, names: Sequence[str]) -> None:
    """Refuse options that mean nothing here."""
    values = {name: getattr(args, name) for name in names}
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in values.items()
        if value is not False and value not in (None, [])
    ]
    if given:
        raise fail(where, expected, ", ".join(given))


def _energy(args: argparse.Namespace) -> int:
    timing = ("batch", "device", "window", "trials")
    if not args.measure:
        _refuse(args, "neuroav energy", "--measure with options of measuring", timing)
    from neuroav.energy.measure import Plan
    from neuroav.footprint import energy_command

    given = {"window_s": args.window, "trials": args.trials}
    return energy_command(
        args.sources,
        out=args.out,
        json_path=args.json,
        clips=args.clips,
        measuring=args.measure,
        batches=args.batch or (1, 64),
        device=args.device,
        plan=Plan(**{name: value for name, value in given.items() if value is not None}),
    )


BENCHES = {  # options of their own
    "events": ("clip", "frames", "validate"),
    "neurons": ("compiled",),
    "train": ("store",),
    "protocol": (),
    "energy": (),
}


def _bench(args: argparse.Namespace) -> int:
    foreign = [name for what, names in BENCHES.items() if what != args.what for name in names]
    if args.what:
        _refuse(args, f"neuroav bench {args.what}", "none of the options of other benches", foreign)
    if args.validate:
        if not args.what:
            raise fail("neuroav bench --validate", "events, as in neuroav bench events --validate", "no bench")
        timing = ("peers", "threads", "clip", "frames", "repeats")
        _refuse(args, "neuroav bench events --validate", "none of the options of a timing", timing)
        from neuroav.bench.validate import validate_command

        return validate_command(args.out, args.json)
    from neuroav.bench.everything import COMMANDS, every_bench_command
    from neuroav.bench.page import Options

    repeats = {} if args.repeats is None else {"repeats": args.repeats}
    options = Options(args.peers, args.threads, json_path=args.json, out=args.out, **repeats)
    own = {
        "events": {"clips": args.clip, "num_frames": args.frames},
        "neurons": {"compiled": args.compiled},
        "train": {"store": args.store},
    }
    if args.what is None:
        return every_bench_command(options, **own)
    return COMMANDS[args.what](options, **own.get(args.what, {}))


def _table(args: argparse.Namespace) -> int:
    from neuroav.table.command import table_command

    if args.key is None:
        _refuse(args, "neuroav table", "a KEY with options", ("data", "store", "dataset", "set", "out", "workers"))
    return table_command(
        args.key,
        data=args.data,
        stores=args.store,
        datasets=args.dataset,
        size=args.size,
        seeds=args.seeds,
        overrides=args.set,
        out=args.out,
        workers=args.workers,
        json_path=args.json,
    )


def _classify(args: argparse.Namespace) -> int:
    if args.follow:
        _refuse(
            args, "neuroav classify --follow", "neither copies nor encoders", ("draw", "video_encoder", "audio_encoder")
        )
        from neuroav.follow import follow_command

        return follow_command(
            args.clips,
            args.run,
            classes=args.classes,
            vectors=args.vectors,
            top=args.top,
            json_path=args.json,
            **{name: value for name in FOLLOWING if (value := getattr(args, name)) is not None},
        )
    _refuse(args, "neuroav classify", "--follow with its options", FOLLOWING)
    from neuroav.classify import classify_command

    return classify_command(
        args.clips,
        args.run,
        classes=args.classes,
        vectors=args.vectors,
        draw=args.draw,
        top=args.top,
        json_path=args.json,
        video_encoder=args.video_encoder,
        audio_encoder=args.audio_encoder,
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; the verbs are frozen by ``tests/policy``."""
    parser = argparse.ArgumentParser(
        prog="neuroav",
        description="Spiking-first audio-visual generalised zero-shot learning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print version and which kernels are compiled")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    demo = verbs.add_parser("demo", help="train and compare on embedded data, write a report")
    demo.add_argument("--size", choices=["tiny", "small"], default="small", help="tiny: seconds, to check an install")
    demo.add_argument("--out", default=None, help="run directory (default: neuroav-demo, or the next free number)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
    demo.set_defaults(handler=_demo)

    run = verbs.add_parser("run", help="train and evaluate an experiment, or several side by side")
    run.add_argument("experiment", metavar="FILE.py:NAME", help="a function that returns an Experiment or a Comparison")
    run.add_argument("--set", action="append", default=[], metavar="a.b=value", help="override one configuration value")
    run.add_argument("--out", default=None, help="run directory (default: runs/NAME); an unfinished one is resumed")
    run.add_argument("--workers", type=int, default=None, help="runs of a comparison at a time (default: one a core)")
    run.add_argument("--tensorboard", action="store_true", help="also write curves for TensorBoard into the directory")
    run.set_defaults(handler=_run)

    evaluate = verbs.add_parser("eval", help="evaluate a finished run again")
    evaluate.add_argument("run_dir", metavar="RUN_DIR")
    evaluate.set_defaults(handler=_eval)

    events = verbs.add_parser("events", help="convert video to events, and event files to other formats")
    events.add_argument("inputs", nargs="+", metavar="INPUT", help="video files, event files, or folders of them")
    events.add_argument("-o", "--out", default=None, help="file to write, its suffix says how; for a folder, a folder")
    events.add_argument("--preset", choices=["ideal", "clean", "noisy", "v2e"], default=None, help="camera to simulate")
    events.add_argument("--contrast", type=float, default=None, help="threshold in log intensity (default: 0.2)")
    events.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another field of EventCamera")
    events.add_argument("--seed", type=int, default=None, help="of the camera's noise (default: 0)")
    events.add_argument(
        "--size", type=_size, default=None, metavar="HxW", help="resize frames; or an event file's size"
    )
    events.add_argument("--roi", type=_region, default=None, metavar="Y,X,H,W", help="simulate only this region")
    events.add_argument("--format", default=None, help="neuroav, v2e, npz, npy, text, aedat4, evt2, evt3 or dat")
    events.add_argument("--clip", default=None, metavar="NAME", help="which one, of an event file that holds several")
    events.add_argument("--labels", action="store_true", help="say of each simulated event whether it is noise")
    events.add_argument("--from-zero", action="store_true", help="count an event file's times from its start")
    events.add_argument("--preview", default=None, metavar="FILM", help="also write a film of the events, .mp4 or .gif")
    events.add_argument("--info", action="store_true", help="say what the inputs hold, and write nothing")
    events.add_argument("--workers", type=int, default=None, help="processes for a folder (default: one per core)")
    events.set_defaults(handler=_events)

    extract = verbs.add_parser("extract", help="turn a folder of clips with sound into a feature store")
    extract.add_argument("folder", metavar="DIR", nargs="?")
    extract.add_argument("--labels", default=None, help="CSV with columns file,label and optionally part")
    extract.add_argument("--vectors", default=None, help="word2vec, GloVe or fastText file, or an .npz")
    extract.add_argument(
        "--simulate", choices=["ucf", "activitynet", "vggsound"], help="draw a benchmark's clips instead, at its size"
    )
    extract.add_argument("--from-avca", metavar="DIR", help="convert AVCA's published archive of averaged features")
    extract.add_argument("--from-tcaf", metavar="DIR", help="convert TCaF's published archive of sequences")
    extract.add_argument("--dataset", choices=["ucf", "activitynet", "vggsound"], help="of an archive with several")
    extract.add_argument(
        "--features", choices=["main", "cls"], help="SeLaVi, or VGGish and C3D (default: main, or the only ones there)"
    )
    extract.add_argument("--split", choices=["main", "cls"], help="lists of classes (default: those of the features)")
    extract.add_argument(
        "--text-order", choices=["by_name", "legacy"], help="legacy: the released, shifted order (default: by_name)"
    )
    extract.add_argument(
        "--video-encoder",
        metavar="NAME:FILE",
        help="classic (default), c3d:, c3d-released: or selavi:WEIGHTS, hf:FOLDER",
    )
    extract.add_argument(
        "--audio-encoder",
        metavar="NAME:FILE",
        help="classic (default), vggish:WEIGHTS[,PCA], selavi:WEIGHTS, hf:FOLDER",
    )
    extract.add_argument("--align", action="store_true", help="bring sound onto the steps of the video, as MDFT needs")
    extract.add_argument("-o", "--out", required=True, help="feature store to write (HDF5)")
    extract.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
    extract.set_defaults(handler=_extract)

    energy = verbs.add_parser("energy", help="operations of models counted, their energy estimated and measured")
    energy.add_argument("sources", nargs="+", metavar="RUN_DIR|FILE.py:NAME", help="runs, or experiments (untrained)")
    energy.add_argument(
        "--out", default=None, metavar="DIR", help="energy.html, .md, .csv, .json (default: RUN_DIR, or neuroav-energy)"
    )
    energy.add_argument("--clips", type=int, default=64, metavar="N", help="test clips counted in a pass (default: 64)")
    energy.add_argument("--measure", action="store_true", help="also measure, in windows: minutes for each model")
    energy.add_argument("--batch", type=int, action="append", default=[], metavar="N", help="measured (default: 1, 64)")
    energy.add_argument("--device", choices=["cpu", "cuda"], default=None, help="measured on (default: a GPU if any)")
    energy.add_argument("--window", type=float, default=None, metavar="S", help="measured at a time (default: 5 s)")
    energy.add_argument("--trials", type=int, default=None, metavar="N", help="windows of each case (default: 5)")
    energy.set_defaults(handler=_energy)

    bench = verbs.add_parser("bench", help="time events, neurons, training, protocol, counting; check the events")
    bench.add_argument("what", nargs="?", choices=[*BENCHES], help="what to time (default: all, and a page of ratios)")
    bench.add_argument("--peers", action="store_true", help="also time the other libraries that are installed")
    bench.add_argument("--compiled", action="store_true", help="neurons: also peers by torch.compile, takes minutes")
    bench.add_argument("--threads", type=int, default=None, metavar="N", help="of the cases on several (default: 2)")
    bench.add_argument(
        "--clip", action="append", default=[], metavar="FILE", help="events: a video to time on; may be repeated"
    )
    bench.add_argument("--frames", type=int, default=None, metavar="N", help="frames of each clip (default: 16 to 100)")
    bench.add_argument(
        "--store", metavar="FILE", help="train, with peers: simulated UCF (cls) to use, or to make there"
    )
    bench.add_argument("--repeats", type=int, default=None, metavar="N", help="turns of everybody (default: 7)")
    bench.add_argument("--validate", action="store_true", help="write the validation page (HTML) instead of timing")
    bench.add_argument("--out", default=None, metavar="FILE", help="also write the table (Markdown) or the page")
    bench.set_defaults(handler=_bench)

    table = verbs.add_parser("table", help="a paper's table beside ours: runs what is missing; lists all without KEY")
    table.add_argument("key", metavar="KEY", nargs="?", help="PAPER.TABLE such as mdft.table2")
    table.add_argument(
        "--data", metavar="WHAT", help="simulated (default), motionscenes, or the store of another data set"
    )
    table.add_argument(
        "--store", action="append", default=[], metavar="NAME=FILE", help="published features, as ucf=ucf.h5"
    )
    table.add_argument(
        "--dataset", action="append", default=[], metavar="NAME", help="of the table's, to simulate (default: ucf)"
    )
    table.add_argument("--size", choices=["tiny", "small", "full"], default="small", help="full: the published budget")
    table.add_argument("--seeds", default="0,1,2,3,4", metavar="N,N", help="default: 0,1,2,3,4")
    table.add_argument("--set", action="append", default=[], metavar="a.b=value", help="override a value in every run")
    table.add_argument("--out", default=None, metavar="DIR", help="default: runs/table/KEY-DATA-SIZE; goes on there")
    table.add_argument("--workers", type=int, default=None, help="runs at a time (default: one a core)")
    table.set_defaults(handler=_table)

    classify = verbs.add_parser("classify", help="name what is in a video, out of any words you type")
    classify.add_argument("clips", nargs="+", metavar="CLIP", help="video files; with --follow one, or /dev/videoN")
    classify.add_argument("--run", required=True, metavar="RUN_DIR", help="a finished run, whose model is asked")
    classify.add_argument(
        "--classes", default=None, metavar='"A, B"', help="to choose from (default: those of the run's test)"
    )
    classify.add_argument("--vectors", default=None, metavar="FILE", help="word vectors, for words new to the run")
    classify.add_argument("--draw", default=None, metavar="MP4|DIR", help="also draw the answer onto copies of clips")
    classify.add_argument("--top", type=int, default=5, metavar="K", help="classes shown (default: 5)")
    classify.add_argument("--follow", action="store_true", help="a growing file or a camera, second by second")
    classify.add_argument(
        "--patience", type=float, default=None, metavar="S", help="--follow ends at a file at rest for S (default: 5)"
    )
    classify.add_argument(
        "--window", type=float, default=None, metavar="S", help="--follow judges the last S (default: a clip)"
    )
    for kind in ("video", "audio"):
        classify.add_argument(f"--{kind}-encoder", metavar="NAME:FILE", help="that of extract, if its files moved")
    classify.set_defaults(handler=_classify)

    for verb in (events, extract):
        verb.add_argument(
            "--cluster", default=None, metavar="ADDRESS", help="of a dask scheduler: a folder's clips on many machines"
        )
    for verb in verbs.choices.values():
        verb.add_argument("--json", default=None, metavar="FILE", help="also write the printed figures as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 fine, 1 something failed, 2 bad input, 130 interrupted)."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        from neuroav.kernels import describe

        print(f"neuroav {__version__}\n{describe()}")  # noqa: T201
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that the terminal can't show
    try:
        with interrupts.never_lost():  # unfinished files are removed
            _check_json(args)
            return args.handler(args)
    except NeuroavError as error:
        text = str(error).removeprefix(f"neuroav {args.verb}: ")
        print(f"neuroav {args.verb}: error: {text}", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:  # whoever read what is printed has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        print(f"neuroav {args.verb}: failed: too little memory: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(f"neuroav {args.verb}: failed: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        remedy = "; the same command goes on from here" if args.verb in RESUMED else ""
        print(f"neuroav {args.verb}: interrupted{remedy}", file=sys.stderr)  # noqa: T201
        return 130


if __name__ == "__main__":
    sys.exit(main())
