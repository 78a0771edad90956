# The demo: what a person would type, in order. Run by `make demo`.
set -eu
BIN=${BIN:-.venv/bin}
DEMO=${DEMO:-demo}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$BIN/$@"; }

rm -rf "$DEMO"
mkdir -p "$DEMO"
say '1/5 drawings: made up, in the official format'
run doodle-dist data synth --drawings 12000 --categories 12 --to "$DEMO/raw"
say '2/5 dataset: shuffled, split, checksummed'
run doodle-dist data prepare --local --source "$DEMO/raw" --to "$DEMO/data" --split 80,10,10
run doodle-dist data inspect "$DEMO/data" -o "$DEMO/contact-sheet.png" >/dev/null
say '3/5 classifier: two workers'
run doodle-dist train classifier-small --local --workers 2 --data "$DEMO/data" --storage "$DEMO/runs" \
    --run classifier --set train.epochs=3 --set optim.classifier.warmup_drawings=6000
say '4/5 conditional GAN: two workers, judged by the classifier'
run doodle-dist train doodle-gan-small --local --workers 2 --data "$DEMO/data" --storage "$DEMO/runs" \
    --run gan --set "gan.judge=$DEMO/runs/classifier" --set train.drawings=36000
say '5/5 samples'
run doodle-dist sample "$DEMO/runs/gan" -n 10 -o "$DEMO/samples.png" >/dev/null

say 'Done.'
top1='import json, sys; print("accuracy on test drawings  %.3f" % json.load(sys.stdin)["top1"])'
"$BIN/doodle-dist" evaluate --local "$DEMO/runs/classifier" --json | "$BIN/python" -c "$top1"
echo "contact sheet              $DEMO/contact-sheet.png"
echo "sample grid                $DEMO/samples.png"
echo "curves and pictures        $BIN/tensorboard --logdir $DEMO/runs"
