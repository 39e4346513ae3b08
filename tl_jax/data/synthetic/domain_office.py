"""Tables of the office domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

OFFICE = Domain(
    "office",
    (
        service(
            "create_event",
            "Put an event into the calendar.",
            [
                "title title event title",
                "date date day of the event",
                "time? time start time",
            ],
            requests=[
                "create an event called {title}[ on {date}|]",
                "put the {title} into my calendar for {date}",
                "schedule the {title}[ on {date}|]",
                "plan a {title} for {date}",
                "add the {title} to the calendar[ on {date}|]",
            ],
            questions=[
                "Could you schedule the {title}[ for {date}|]",
                "Can you put the {title} into my calendar on {date}",
                "Can the {title} go into the calendar[ on {date}|]",
            ],
            options={"time": ("at {time}", "starting at {time}")},
            output={"event_id": "code", "room": "int:100-420"},
        ),
        service(
            "create_event_reminder",
            "Set an alarm before an event.",
            ["event_id code event code", "minutes int:5-90 minutes before"],
            requests=[
                "remind me {minutes} minutes before [event {event_id}|the event]",
                "set a reminder {minutes} minutes ahead of {event_id}",
                "create a reminder for event {event_id}[, {minutes} minutes before|]",
                "make an alarm {minutes} minutes before {event_id}",
                "warn me {minutes} minutes ahead of [event {event_id}|my event]",
            ],
            questions=[
                "Could you remind me {minutes} minutes before [event {event_id}|my event]",
                "Can I get an alarm {minutes} minutes before {event_id}",
                "Can you warn me {minutes} minutes ahead of [{event_id}|the event]",
            ],
            output={"reminder": "code", "rings": "time"},
        ),
        service(
            "delete_event",
            "Remove an event from the calendar.",
            ["event_id code event code"],
            requests=[
                "delete [event {event_id}|the event] from my calendar",
                "remove the event {event_id}",
                "take [event {event_id}|my event] off the calendar",
                "drop the calendar entry {event_id}",
                "erase [the calendar event {event_id}|an event in my calendar]",
            ],
            questions=[
                "Could you delete [event {event_id}|my event]",
                "Can event {event_id} be removed",
                "Can you erase [calendar event {event_id}|the calendar event]",
            ],
            output={"state": "enum:deleted,archived", "receipt": "code"},
        ),
        service(
            "find_contact",
            "Find the address of a person.",
            ["person person full name"],
            requests=[
                "find the contact of {person}",
                "look up [{person}|somebody] in my contacts",
                "search the address book for {person}",
                "get the e-mail address of [{person}|a colleague]",
                "find out how to reach [{person}|a colleague]",
            ],
            questions=[
                "What is the address of {person}",
                "How can I reach [{person}|a colleague]",
                "Do I have a contact[ for {person}|]",
            ],
            output={"email": "email", "phone": "phone"},
        ),
        service(
            "send_email",
            "Send an e-mail at once.",
            ["address email e-mail address", "subject title subject line"],
            requests=[
                "send an e-mail about the {subject}[ to {address}|]",
                "write to {address} about the {subject}",
                "mail {address} with the subject {subject}",
                "send {address} a message on the {subject}",
                "drop a mail on the {subject}[ to {address}|]",
            ],
            questions=[
                "Could you send a mail about the {subject}[ to {address}|]",
                "Can you write to {address} about the {subject}",
                "Can you e-mail {address} about the {subject}",
            ],
            output={"message_id": "code", "sent": "time"},
        ),
        service(
            "send_email_later",
            "Send an e-mail at a later time.",
            [
                "address email e-mail address",
                "subject title subject line",
                "time time sending time",
            ],
            requests=[
                "send an e-mail about the {subject} to {address} at {time}",
                "schedule a mail[ to {address}|] on the {subject} for {time}",
                "write to {address} about the {subject}, but only at {time}",
                "mail {address} about the {subject} later, at {time}",
                "plan a mail on the {subject}[ to {address}|] at {time} for later",
            ],
            questions=[
                "Could you mail {address} about the {subject} at {time}",
                "Can a mail about the {subject} go to {address} at {time}",
                "Can you schedule a mail on the {subject}[ to {address}|] for {time}",
            ],
            output={"message_id": "code", "state": "enum:planned,waiting"},
        ),
        service(
            "share_file",
            "Give people access to a file.",
            [
                "file file file name",
                "people list:person list of people",
                "edit? bool right to edit",
            ],
            requests=[
                "share {file} with {people}",
                "give {people} access to {file}",
                "send the file {file}[ to {people}|]",
                "let {people} open {file}",
                "open up {file}[ for {people}|]",
            ],
            questions=[
                "Could you share {file}[ with {people}|]",
                "Can {people} get access to {file}",
                "Can you let {people} see {file}",
            ],
            options={
                "edit": ("and allow editing", "with edit rights"),
                "!edit": ("without edit rights", "but forbid editing"),
            },
            output={"link": "code", "users": "int:2-30"},
        ),
        service(
            "search_file",
            "Find a file by its topic.",
            ["topic title topic of the file", "type? enum:pdf,docx,xlsx,png file type"],
            requests=[
                "find the file about the {topic}",
                "search my documents for the {topic}",
                "look for [the {topic} document|a document]",
                "find where the {topic} file is",
                "look up the document[ on the {topic}|]",
            ],
            questions=[
                "Where is the file about the {topic}",
                "Do we have a document[ on the {topic}|]",
                "Which file is[ about the {topic}|] in my documents",
            ],
            options={"type": ("as {type}", "in {type} format")},
            output={"file": "file", "pages": "int:1-90"},
        ),
    ),
    (
        Chain(
            "find_contact",
            "email",
            "send_email",
            "address",
            (
                "send an e-mail there about the {subject}",
                "write to that address about the {subject}",
                "mail them on the {subject}",
                "drop them a mail about the {subject}",
            ),
        ),
        Chain(
            "search_file",
            "file",
            "share_file",
            "file",
            (
                "share it with {people}",
                "give {people} access to it",
                "let {people} open it",
                "open it up for {people}",
            ),
        ),
        Chain(
            "create_event",
            "event_id",
            "create_event_reminder",
            "event_id",
            (
                "remind me {minutes} minutes before it",
                "set a reminder {minutes} minutes ahead",
                "make an alarm {minutes} minutes before it",
                "warn me {minutes} minutes ahead of it",
            ),
        ),
    ),
)
