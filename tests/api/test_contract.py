"""The API against its own OpenAPI document: requests that nobody would think of, one by one and in sequences."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import get_state_machine_test
from schemathesis import Case, CheckContext, Response
from schemathesis.core.result import Ok
from schemathesis.generation.stateful.state_machine import APIStateMachine
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.api.conftest import House, face

# Every request here carries a good key: who has none is for test_auth. The other one knows no request that is well
# formed and cannot be done, as a job of an upload that is not there; `never_called_invalid` knows it.
NOT_ASKED = [ignored_auth, positive_data_acceptance]


def never_called_invalid(_: CheckContext, response: Response, case: "Case[Any]") -> None:
    """What the document allows is not refused as malformed."""
    if case.meta is not None and case.meta.generation.mode.is_positive and response.status_code in (400, 422):
        assert response.json()["code"] not in ("invalid_request", "malformed_body", "bad_request"), response.text


def unhurried(examples: int, steps: int = 1) -> settings:
    """As many examples, always the same ones, on a machine of any speed."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # a failure is told as it was found: to look for a shorter one takes minutes
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def served(build: Callable[..., House]) -> House:
    """An account with a job that ended, and no limit to how often it asks."""
    house = build(rate_limit="")
    house.submit(2)
    house.scan_all(face(0.9))
    return house


@pytest.fixture
def schema(served: House) -> BaseSchema:
    return schemathesis.openapi.from_wsgi("/openapi.json", served.app)


def test_every_answer_is_one_that_the_document_promises(schema: BaseSchema, served: House) -> None:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)

        @unhurried(20)
        @given(case=found.ok().as_strategy())
        def check(case: "Case[Any]") -> None:
            case.call_and_validate(
                headers=served.bearer, additional_checks=[never_called_invalid], excluded_checks=NOT_ASKED
            )

        check()


@pytest.mark.parametrize("seed", range(12))
def test_no_sequence_of_requests_leads_to_an_answer_that_was_not_promised(
    schema: BaseSchema, served: House, seed: int
) -> None:
    machine: type[APIStateMachine] = schema.as_state_machine()
    asked: list[int] = []

    class Sequences(machine):  # type: ignore[misc, valid-type]
        def get_call_kwargs(self, _: "Case[Any]") -> dict[str, Any]:
            return {"headers": served.bearer}

        def validate_response(self, response: Response, case: "Case[Any]", **_: Any) -> None:
            asked.append(response.status_code)
            case.validate_response(
                response,
                additional_checks=[never_called_invalid],
                excluded_checks=NOT_ASKED,
                recorder=getattr(self, "recorder", None),
            )

    # Drawn from plain bytes: Hypothesis's own runs compare a sequence with earlier ones that began alike, and give up
    # where the rows that those left behind make an answer another one.
    draws = random.Random(seed)  # the same sequences each time
    run: Any = get_state_machine_test(Sequences, settings=unhurried(1, steps=8))
    for _ in range(3):
        run.hypothesis.fuzz_one_input(draws.randbytes(8192))
    assert len(asked) > 8  # more than one sequence came to its end
