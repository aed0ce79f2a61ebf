"""Help that answers at once; ``--help-all`` asks LightningCLI for everything."""

HELP = {
    "fit": """\
lmzoo fit: train a model on a text

  lmzoo fit --model gpt                          the King James Bible, five minutes
  lmzoo fit --model lstm --data.path my.txt      your own text
  lmzoo fit --config configs/gpt.yaml            everything from a file

what to train
  --model NAME               a member of the zoo (lmzoo models); default ff
  --model pretrained --model.source FOLDER_OR_NAME   what others trained, fine-tuned
  --model.preset NAME        a published size, for example gpt-nano
  --model.KEY VALUE          an argument of that model (lmzoo models NAME lists them,
                             and the presets)
  --plugin FILE.py           a file that registers models of your own

classify texts
  --model classifier --data.path FILES   csv, tsv, jsonl, a folder for each label
  --model.body NAME|RUN|FOLDER           any model of the zoo; --model.body.KEY VALUE
  --distill_from RUN                     learn from another classifier as well

on what
  --data.corpus NAME         kjv (default), pydoc, pysource, tinyshakespeare
  --data.path PATH           a file, folder or glob: txt, md, csv, jsonl, each also .gz
  --data.tokenizer KIND      char (default), word, byte, bpe, or a tokenizer.json
  --data.batch_size N        windows in a batch
  --data.batch_size_schedule '{"STEPS": N}'   another size from that step on
  --data.val_fraction F      0.05; --data.test_fraction F

for how long, how fast
  --trainer.max_steps N      optimizer steps
  --budget.seconds N         this long instead; --budget.tokens N, --budget.flops N
  --optimizer NAME|CLASS     adamw, muon, adafactor, or any class; --optimizer.lr RATE
  --lr_scheduler NAME|CLASS  cosine, wsd, rsqrt, or any class
                             (--optimizer.help NAME, --lr_scheduler.help NAME)
  --ema.decay F              average the weights; the average is measured and kept
  --trainer.precision P      32-true on a CPU, bf16-mixed or 16-mixed on a GPU
  --trainer.accumulate_grad_batches N
  --trainer.devices N --trainer.strategy ddp|fsdp2    several processes; docs/scaling.md
  --trainer.val_check_interval N   optimizer steps between validations
  --early_stopping.patience N      validations without improvement
  --early_stopping.min_relative_improvement F
  --seed_everything N
  --spike_guard.enabled true       a loss that spikes: earlier weights, further text
  --compile true
  --activation_checkpointing true  less memory, one more forward pass

what stays as it is
  --freeze.blocks N          the first N blocks; -2 is all but the last two
  --freeze.embeddings true, --freeze.all_but_head true
  --freeze.patterns NAME     parameters by name, with * and ?
  --freeze.unfreeze_every N  steps after which one more part begins to train
  --freeze.rates JSON        {"PATTERN": share of the learning rate}

a run
  --trainer.default_root_dir FOLDER    default: runs/MODEL-CORPUS-HASH
  --ckpt_path RUN            resume exactly from a run folder or checkpoint
  --init_from RUN            start a new run from another run's weights
  --fresh                    start anew although the same command has run before
  --checkpoints.every_n_steps N        keep a history for later study
  --config FILE              options from a YAML file; what is typed wins
  --print_config             show the whole configuration

--help-all lists every option there is.""",
    "validate": """\
lmzoo validate: measure a run on the validation part of a text

  lmzoo validate --ckpt_path runs/gpt-kjv-1a2b3c4d
  lmzoo validate --ckpt_path RUN --data.corpus pydoc

  --ckpt_path RUN            a run folder (its best checkpoint) or a checkpoint file
  --data.corpus NAME, --data.path PATH    another text; default: the run's own
  --data.unknown unk|skip|error           what happens to symbols the run never saw

--help-all lists every option there is.""",
}
HELP["test"] = (
    HELP["validate"].replace("validate", "test").replace("validation", "test")
)


def print_help(command: str) -> None:
    """Print the common options of a command."""
    print(HELP[command])
