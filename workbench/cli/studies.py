"""``workbench studies``: what can be asked, and what has been answered."""

from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir


def studies(runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Every study: the question it answers, what that costs, and what was found where it has been run.

    Those that come along, your own in this folder or in ./studies, and those that have runs.

    Examples:

        workbench studies

        workbench sweep --study icl_weight

        workbench report icl_weight
    """
    from workbench.cli.output import print_json, print_line, print_rows
    from workbench.report.results import answered
    from workbench.runs.of_study import find_study, known_studies

    found = [find_study(name, runs).study for name in known_studies(runs)]
    answers = answered()
    if json:
        documents = [
            {
                "name": study.name,
                "question": study.question,
                "num_runs": study.num_runs,
                "cost": study.cost,
                "answer": answers.get(study.name),
            }
            for study in found
        ]
        print_json({"studies": documents})
        return
    rows = [[study.name, str(study.num_runs), study.question] for study in found]
    print_rows(["study", "runs", "question"], rows, num_words=3)
    if answers:
        print_line("")
        print_rows(["study", "answered"], [[name, said] for name, said in answers.items()], num_words=2)
