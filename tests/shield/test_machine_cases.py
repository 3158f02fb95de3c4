"""Any order of claiming, answering, undoing and leaving keeps what was decided, and each case in one pair of hands."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, text, update

from shield import accounts, claims, decisions
from shield.claims import Reviewer
from shield.db import Database, now
from shield.decisions import FINAL, Ruling
from shield.errors import AlreadyDecided, CaseTaken, ClaimLost, InvalidSubmission, NothingToUndo, ScopeMissing
from shield.models import Case, CasePiece, Decision
from shield.states import Answer, CaseState
from tests.shield.reviewing import ANNA, BEN, CLEAR, FAKE, LEAD, SUSPECT, open_cases
from tests.shield.test_machine import TABLES

CASES = 3
WHICH, WHO = st.integers(0, CASES - 1), st.sampled_from([ANNA, BEN, LEAD])
ANSWER = st.sampled_from([Answer.UPHOLD, Answer.OVERTURN, Answer.ESCALATE, Answer.SKIP])
REFUSED = (AlreadyDecided, CaseTaken, ClaimLost, InvalidSubmission, ScopeMissing)


class Review(RuleBasedStateMachine):
    """Three cases, three reviewers, and every token that anybody was ever given."""

    database: Database

    @initialize()
    def begin(self) -> None:
        with self.database.write() as session:
            for table in TABLES:
                session.execute(text(f"delete from {table}"))  # noqa: S608 - known names
            self.account_id = accounts.create_account(session, "acme").id
        seen = [(FAKE, 0.9), (SUSPECT, 0.6), (CLEAR, 0.1)]
        self.ids = open_cases(self.database, self.account_id, seen, ["0123456789abcdef"] * CASES, sample=True)
        self.tokens: list[tuple[str, str]] = []  # of which case
        self.rows: dict[str, tuple[object, ...]] = {}

    @rule(which=WHICH, who=WHO)
    def claim(self, which: int, who: Reviewer) -> None:
        self._claimed(lambda session: claims.claim(session, self.account_id, self.ids[which], who, 60), who)

    @rule(who=WHO)
    def claim_next(self, who: Reviewer) -> None:
        self._claimed(lambda session: claims.claim_next(session, self.account_id, who, 60), who)

    @rule(which=WHICH, who=WHO)
    def undo(self, which: int, who: Reviewer) -> None:
        self._claimed(lambda session: decisions.undo(session, self.account_id, self.ids[which], who, 60), who)

    @rule(which=st.integers(0, 50), who=WHO, answer=ANSWER)
    def decide(self, which: int, who: Reviewer, answer: Answer) -> None:
        """By a token that may have been lost long ago."""
        if not self.tokens:
            return
        case_id, token = self.tokens[which % len(self.tokens)]
        with self.database.write() as session:
            row = session.get_one(Case, case_id)
            lives = row.claim_token == token and row.claimed_until is not None and row.claimed_until > now(session)
            twice = row.level == "lead" and answer == Answer.ESCALATE
            try:
                decisions.decide(session, self.account_id, case_id, token, Ruling(answer), who)
                decided = True
            except REFUSED:
                decided = False
            assert decided == (lives and not twice)

    @rule(who=WHO, answer=ANSWER)
    def decide_all(self, who: Reviewer, answer: Answer) -> None:
        with self.database.write() as session:
            try:
                decisions.decide_many(session, self.account_id, self.ids, Ruling(answer), who, 10, 10_000)
            except InvalidSubmission:
                assert answer == Answer.SKIP

    @rule(which=WHICH, swept=st.booleans())
    def leave(self, which: int, swept: bool) -> None:
        """A reviewer closes the page: the claim runs out, and is swept or not."""
        running = update(Case).where(Case.id == self.ids[which], Case.claimed_until.is_not(None))
        with self.database.write() as session:
            session.execute(running.values(claimed_until=now(session)))
        if swept:
            with self.database.write() as session:
                claims.sweep(session)

    def _claimed(self, ask: object, who: Reviewer) -> None:
        with self.database.write() as session:
            before = {row.id: (row.claimed_by, row.claimed_until) for row in session.scalars(select(Case))}
            moment = now(session)
            try:
                claim = ask(session)  # type: ignore[operator]
            except (*REFUSED, NothingToUndo):
                session.rollback()
                return
            if claim is not None:
                holder, until = before[claim.case.id]
                assert holder in (None, who.id) or until is None or until <= moment
                self.tokens.append((claim.case.id, claim.token))

    @invariant()
    def what_was_decided_is_kept_and_the_case_says_so(self) -> None:
        with self.database.read() as session:
            rows = session.scalars(select(Decision).order_by(Decision.decided_at, Decision.id)).all()
            found = {row.id: (row.case_id, row.answer, row.actor, row.undoes) for row in rows}
            assert {row_id: found[row_id] for row_id in self.rows} == self.rows
            self.rows = dict(found)
            undone = {row.undoes for row in rows}
            pieces = set(session.scalars(select(CasePiece.case_id)))
            for case in session.scalars(select(Case)):
                standing = [row.answer for row in rows if row.case_id == case.id and row.id not in undone]
                final = [answer for answer in standing if answer in FINAL]
                assert (case.state == CaseState.DECIDED) == bool(final) == (case.id in pieces)
                assert [case.answer] == final or (case.answer is None and not final)
                assert (case.level == "lead") == (Answer.ESCALATE in standing)


def test_any_order_of_steps_keeps_what_was_decided(database: Database) -> None:
    machine = type("OnThis", (Review,), {"database": database})
    steps = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # a failure is told as it was found: to look for a shorter one takes minutes
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=steps)
