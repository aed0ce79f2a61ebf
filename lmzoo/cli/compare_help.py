"""Help for ``lmzoo compare`` that answers at once."""

HELP = """\
lmzoo compare: train several models alike, in one table

  lmzoo compare --models ngram,ff,lstm,gpt --seeds 3 --budget.seconds 60
  lmzoo compare --model gpt --vary model.num_layers=2,4,8 --budget.steps 1000
  lmzoo compare --model lstm --vary data.tokenizer=char,word,byte,bpe:512,bpe:2048 \\
      --budget.flops 2e11
  lmzoo compare --config compare.yaml

what to compare
  --models NAME,NAME         members of the zoo (lmzoo models); --model for a single one
  --seeds N                  that many from 1337 on, default 3; or a list: 1,2,3
  --vary KEY=VALUE,VALUE     an option of fit, once with each value; repeated: a grid
                             (lists in brackets: optimizer.betas=[0.9,0.95],[0.9,0.99])
  --plugin FILE.py           a file that registers models of your own

how long each cell trains: one of
  --budget.seconds N         of training; start-up and evaluation are not counted
  --budget.steps N           optimizer steps
  --budget.tokens N          800k, 2M, ...
  --budget.flops N           floating-point operations of training

what makes it fair
  --match.params N           sizes each model to N parameters (800k), to within 2 %
  --tune.trials N            N learning rates for each model, in a quarter of its budget
                             (extra tune); without it, each model's tuned defaults.
                             Instead of an --optimizer.lr, not beside one

what is measured besides
  --timing false             leave out time against length (a few seconds a model)

where and how
  --out FOLDER               default: compare/HASH of all this
  --parallel N               cells at a time; the cores are divided. Default: one for
                             each core, at most 4; 1 where there is a GPU
  --threads N                of each cell; default: cores / parallel, or
                             OMP_NUM_THREADS if that is less
  --launcher NAME            local; ray and slurm (extras of the same names) take
                             the cells to a cluster that shares the folder
  --launcher.KEY VALUE       ray: address, num_gpus, max_retries; slurm: partition,
                             time (minutes), cpus, gpus, array_parallelism, max_retries

Every other option is one of lmzoo fit and goes to every cell (--data.path, --model.KEY,
--optimizer.lr, ...). Early stopping is off unless an --early_stopping option is given.

--config FILE.yaml holds any of these, and
  vary: {model.num_layers: [2, 4]}
  tokenizers: [char, bpe:512]      corpora: [kjv, pydoc]
  rows: {plain: {}, wider: {model.d_model: 256}}   named sets of options, one a row
  overrides: {gpt: {optimizer.lr: 2e-3}}       options of one model alone
What is typed wins over the file.

Before anything trains, each model is proved to see no future; one that does is excluded
by name. Interrupted and started again, the same command repeats nothing that is done;
with --out, models and seeds can be added to what is done.
The folder holds report.html, report.md, results.json, results.csv and a run folder for
each cell; exit code 1 says that a cell failed."""
