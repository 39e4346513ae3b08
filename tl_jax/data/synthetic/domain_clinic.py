"""Tables of the clinic domain."""

from __future__ import annotations

from tl_jax.data.synthetic.spec import Chain, Domain, service

CLINIC = Domain(
    "clinic",
    (
        service(
            "search_doctor",
            "Find a doctor in a city.",
            ["city city city name"],
            requests=[
                "find a doctor[ in {city}|]",
                "search for a physician in {city}",
                "look for somebody who treats patients[ in {city}|]",
                "find me a doctor[ near {city}|]",
            ],
            questions=[
                "Which doctors work in {city}",
                "Is there a doctor[ in {city}|]",
                "Where can I see a doctor[ in {city}|]",
            ],
            output={"doctor_id": "code", "name": "person"},
        ),
        service(
            "search_doctor_by_field",
            "Find a doctor of a medical field.",
            ["city city city name", "field enum:skin,heart,eye,ear,teeth medical field"],
            requests=[
                "find a {field} doctor[ in {city}|]",
                "search for a doctor in {city} who knows {field} problems",
                "look for a {field} specialist in {city}",
                "find me somebody[ in {city}|] who treats {field} pain",
            ],
            questions=[
                "Who is a {field} doctor[ in {city}|]",
                "Is there a {field} specialist in {city}",
                "Which doctor in {city} treats {field} problems",
            ],
            output={"doctor_id": "code", "name": "person"},
        ),
        service(
            "get_doctor_hours",
            "Give the opening hours of a doctor.",
            ["doctor_id code doctor code", "date? date day of the visit"],
            requests=[
                "get the opening hours of [doctor {doctor_id}|the doctor]",
                "check when [doctor {doctor_id}|my doctor] is open",
                "look up the hours of {doctor_id}",
                "find out when [doctor {doctor_id}|the doctor] works",
            ],
            questions=[
                "When is [doctor {doctor_id}|my doctor] open",
                "What are the hours of {doctor_id}",
                "When does [doctor {doctor_id}|the doctor] work",
            ],
            options={"date": ("on {date}", "for {date}")},
            output={"opens": "time", "closes": "time"},
        ),
        service(
            "get_doctor_fee",
            "Give the price of a visit to a doctor.",
            ["doctor_id code doctor code"],
            requests=[
                "get the fee of [doctor {doctor_id}|the doctor]",
                "check what a visit to [doctor {doctor_id}|my doctor] costs",
                "look up the visit price of {doctor_id}",
                "find out how much [doctor {doctor_id}|the doctor] charges",
            ],
            questions=[
                "How much does [doctor {doctor_id}|my doctor] charge",
                "What is the fee of {doctor_id}",
                "What does a visit to [doctor {doctor_id}|the doctor] cost",
            ],
            output={"fee": "amount", "currency": "enum:EUR,USD,GBP"},
        ),
        service(
            "book_visit",
            "Book a visit to a doctor.",
            [
                "doctor_id code doctor code",
                "patient person patient name",
                "time? time time of the visit",
            ],
            requests=[
                "book a visit to [doctor {doctor_id}|the doctor] for {patient}",
                "make an appointment with {doctor_id}[ for {patient}|]",
                "set up a visit of {patient} to doctor {doctor_id}",
                "get {patient} an appointment with [{doctor_id}|the doctor]",
            ],
            questions=[
                "Could {patient} see doctor {doctor_id}",
                "Can I book a visit to {doctor_id}[ for {patient}|]",
                "Can {patient} get an appointment with [{doctor_id}|the doctor]",
            ],
            options={"time": ("at {time}", "for {time}")},
            output={"visit_id": "code", "floor": "int:1-9"},
        ),
        service(
            "cancel_visit",
            "Cancel a visit to a doctor.",
            ["visit_id code visit code"],
            requests=[
                "cancel [visit {visit_id}|my visit]",
                "drop the appointment {visit_id}",
                "call off [my visit {visit_id}|my visit to the doctor]",
                "undo [the doctor visit {visit_id}|my doctor visit]",
            ],
            questions=[
                "Can I cancel [visit {visit_id}|my visit]",
                "Could the appointment {visit_id} be dropped",
                "Is it possible to call off [visit {visit_id}|my appointment]",
            ],
            output={"receipt": "code", "state": "enum:cancelled,pending"},
        ),
        service(
            "get_patient_record",
            "Show the record of a patient.",
            ["patient person patient name"],
            requests=[
                "show the record of {patient}",
                "open the medical file of [{patient}|the patient]",
                "look up the record of patient {patient}",
                "get the file of [patient {patient}|the patient]",
            ],
            questions=[
                "What is in the record of {patient}",
                "Where is the medical file of [{patient}|the patient]",
                "Do you have a record of [{patient}|my patient]",
            ],
            output={"record_id": "code", "blood": "enum:A,B,AB,O"},
        ),
    ),
    (
        Chain(
            "search_doctor",
            "doctor_id",
            "get_doctor_hours",
            "doctor_id",
            ("tell me the opening hours", "check when it is open", "get the hours"),
        ),
        Chain(
            "search_doctor_by_field",
            "doctor_id",
            "book_visit",
            "doctor_id",
            ("book a visit for {patient}", "make an appointment for {patient}"),
        ),
    ),
)
