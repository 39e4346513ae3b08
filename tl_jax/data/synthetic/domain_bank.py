"""Tables of the bank domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

_MONEY = "enum:EUR,USD,GBP,JPY,CHF,SEK,INR,BRL,CAD,AUD"

BANK = Domain(
    "bank",
    (
        service(
            "get_account_balance",
            "Give the balance of an account.",
            ["account account account number"],
            requests=[
                "check the balance of [account {account}|my account]",
                "see how much money is on [account {account}|my account]",
                "look up the balance for {account}",
                "get the balance of my account {account}",
                "find out how much is left on [account {account}|my account]",
            ],
            questions=[
                "What is the balance of [account {account}|my account]",
                "How much money is on {account}",
                "How much do I have on [account {account}|my account]",
            ],
            output={"balance": "amount", "currency": _MONEY},
        ),
        service(
            "get_account_history",
            "List the payments of an account.",
            ["account account account number", "days? int:2-90 number of past days"],
            requests=[
                "list the payments of [account {account}|my account]",
                "show the history of [account {account}|my account]",
                "look up past payments on {account}",
                "get the movements of account {account}",
                "show what was paid from [account {account}|my account]",
            ],
            questions=[
                "Which payments were made on [account {account}|my account]",
                "What is the history of {account}",
                "What was paid from [account {account}|my account]",
            ],
            options={"days": ("for the last {days} days", "over the past {days} days")},
            output={"payments": "int:1-60", "largest": "amount"},
        ),
        service(
            "transfer_money",
            "Send money to a person now.",
            [
                "recipient person recipient name",
                "amount amount amount of money",
                f"currency? {_MONEY} currency code",
            ],
            requests=[
                "send {amount}[ to {recipient}|]",
                "transfer {amount} to {recipient}",
                "pay {recipient}[ {amount}|]",
                "give {recipient} {amount} from my account",
                "wire {amount}[ over to {recipient}|]",
            ],
            questions=[
                "Could you transfer {amount}[ to {recipient}|]",
                "Can I send {amount} to {recipient}",
                "Could {recipient} get {amount} from me",
            ],
            options={"currency": ("in {currency}", "paid in {currency}")},
            output={"transfer": "code", "fee": "amount"},
        ),
        service(
            "transfer_money_later",
            "Send money to a person on a later day.",
            [
                "recipient person recipient name",
                "amount amount amount of money",
                "date date day of payment",
            ],
            requests=[
                "send {amount} to {recipient} on {date}",
                "schedule a transfer of {amount} to {recipient} for {date}",
                "plan a payment of {amount}[ to {recipient}|] on {date}",
                "pay {recipient} {amount} later, on {date}",
                "set up a later transfer of {amount}[ to {recipient}|] on {date}",
            ],
            questions=[
                "Could you send {amount} to {recipient} on {date}",
                "Can I schedule {amount}[ for {recipient}|] on {date}",
                "Could {recipient} get {amount} later, on {date}",
            ],
            output={"plan": "code", "state": "enum:planned,waiting"},
        ),
        service(
            "convert_currency",
            "Convert money into another currency.",
            [
                "amount amount amount of money",
                f"source {_MONEY} currency to sell",
                f"target {_MONEY} currency to buy",
            ],
            requests=[
                "convert {amount} {source} into {target}",
                "change {amount} {source} to {target}",
                "turn {amount} {source}[ into {target}|]",
                "find out what {amount} {source} is in {target}",
                "exchange {amount} {source}[ for {target}|]",
            ],
            questions=[
                "How much is {amount} {source} in {target}",
                "What do I get for {amount} {source}[ in {target}|]",
                "What is {amount} {source} worth[ in {target}|]",
            ],
            output={"result": "amount", "rate": "amount"},
        ),
        service(
            "find_bill",
            "Find an open bill of a company.",
            ["company brand company name", "month? date date of the bill"],
            requests=[
                "find the open bill of {company}",
                "look for [the {company} bill|my bill]",
                "search my unpaid bill from {company}",
                "find what I owe {company}",
                "look up [the bill from {company}|the bill]",
            ],
            questions=[
                "Is there an open bill[ from {company}|]",
                "Do I owe money to {company}",
                "Which bill did [{company}|they] send me",
            ],
            options={"month": ("dated {month}", "from {month}")},
            output={"bill_id": "code", "due": "amount"},
        ),
        service(
            "pay_bill",
            "Pay a bill from an account.",
            ["bill_id code bill number", "account account account number"],
            requests=[
                "pay bill {bill_id} from account {account}",
                "settle [bill {bill_id}|my bill] using account {account}",
                "pay the bill {bill_id}[ with account {account}|]",
                "use account {account} to pay bill {bill_id}",
                "clear [the bill {bill_id}|my bill] with account {account}",
            ],
            questions=[
                "Could you pay bill {bill_id}[ from account {account}|]",
                "Can bill {bill_id} be paid from {account}",
                "Can I settle [bill {bill_id}|my bill] with account {account}",
            ],
            output={"payment": "code", "state": "enum:paid,waiting"},
        ),
    ),
    (
        Chain(
            "find_bill",
            "bill_id",
            "pay_bill",
            "bill_id",
            (
                "pay it from account {account}",
                "settle it using account {account}",
                "use account {account} to pay it",
                "clear it with account {account}",
            ),
        ),
    ),
)
